"""Checks every promise of docs/guarantees.md over the database, the files, and what callers were told."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import struct
from collections import Counter
from pathlib import Path
from typing import Any

from journal import CLOSING, Journal


class Checker:
    """Looks at a home after each restart; `violations` must stay empty."""

    def __init__(self, home: Path, journal: Journal) -> None:
        self._home = home
        self._journal = journal
        self.violations: list[str] = []
        self.checked: Counter[str] = Counter()
        # Adapter -> the tensors of the run that nobody interrupted.
        self.reference: dict[str, str] = {}

    def check(self, *, over: bool = False) -> None:
        """Checks; `over`: every job must have ended well."""
        connection = sqlite3.connect(f"file:{self._home / 'registry.db'}?mode=ro", uri=True, timeout=10)
        connection.row_factory = sqlite3.Row
        try:
            connection.execute("BEGIN")
            self._integrity(connection)
            self._jobs(connection, over)
            self._events(connection)
            self._versions(connection)
            self._formats(connection)
            self._pointers(connection)
            self._feedback(connection)
        finally:
            connection.close()
        if over:
            leftovers = [path.name for path in (self._home / ".staging").iterdir()]
            self._expect(not leftovers, f".staging is not empty: {leftovers}")
        with self._journal.lock:
            self.violations += self._journal.broken
            self._journal.broken.clear()
        self.checked["looks at everything"] += 1

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.violations.append(otherwise)

    def _integrity(self, connection: sqlite3.Connection) -> None:
        found = [row[0] for row in connection.execute("PRAGMA integrity_check")]
        self._expect(found == ["ok"], f"the database is damaged: {found}")
        self._expect(not list(connection.execute("PRAGMA foreign_key_check")), "a row refers to nothing")

    def _jobs(self, connection: sqlite3.Connection, over: bool) -> None:
        """An acknowledged job is never lost nor published twice."""
        stored = {row["request_id"]: row for row in connection.execute("SELECT * FROM jobs")}
        with self._journal.lock:
            acknowledged, closed = dict(self._journal.jobs), dict(self._journal.closed)
            cancelled = set(self._journal.cancelled)
        for request_id, job_id in acknowledged.items():
            row = stored.get(request_id)
            self._expect(row is not None and row["job_id"] == job_id, f"the acknowledged job {job_id} is lost")
            if row is None:
                continue
            if job_id in closed:
                self._expect(
                    row["state"] == closed[job_id].upper(), f"{job_id} was {closed[job_id]}, is {row['state']}"
                )
            if job_id in cancelled:
                self._expect(row["cancel_requested"] == 1, f"the acknowledged cancellation of {job_id} is lost")
            if over:
                self._expect(row["state"] in ("SUCCEEDED", "CANCELLED"), f"{job_id} ended {row['state']}")
        published = Counter(row["job_id"] for row in connection.execute("SELECT job_id FROM versions"))
        for row in stored.values():
            count = published[row["job_id"]]
            self._expect(count <= 1, f"{row['job_id']} is published {count} times")
            self._expect(row["state"] != "SUCCEEDED" or count == 1, f"{row['job_id']} succeeded without a version")
            self._expect(row["state"] != "CANCELLED" or count == 0, f"{row['job_id']} is cancelled and published")
        self.checked["jobs"] = max(self.checked["jobs"], len(acknowledged))

    def _events(self, connection: sqlite3.Connection) -> None:
        """A job's events are gapless, ordered, the same for every reader."""
        last = dict(connection.execute("SELECT job_id, last_sequence FROM jobs").fetchall())
        found: dict[str, list[sqlite3.Row]] = {job_id: [] for job_id in last}
        for row in connection.execute("SELECT job_id, sequence, kind FROM events ORDER BY job_id, sequence"):
            found[row["job_id"]].append(row)
        for job_id, events in found.items():
            numbers = [row["sequence"] for row in events]
            self._expect(numbers == list(range(1, last[job_id] + 1)), f"{job_id}: events {numbers} of {last[job_id]}")
            closing = [row["sequence"] for row in events if row["kind"] in CLOSING]
            self._expect(closing in ([], [last[job_id]]), f"{job_id}: closing events {closing} of {last[job_id]}")
        with self._journal.lock:
            seen = {job_id: dict(events) for job_id, events in self._journal.events.items()}
        for job_id, events in seen.items():
            kinds = {row["sequence"]: row["kind"] for row in found.get(job_id, [])}
            for sequence in events:
                self._expect(sequence in kinds, f"{job_id}: event {sequence} was sent and is lost")
        self.checked["events"] = max(self.checked["events"], sum(len(events) for events in seen.values()))

    def _versions(self, connection: sqlite3.Connection) -> None:
        """A published version is whole, or it is not there."""
        rows = connection.execute("SELECT * FROM versions").fetchall()
        names = {f"{row['adapter']}_v{row['number']}" for row in rows}
        held = {f"{r['adapter']}_v{r['number']}" for r in connection.execute("SELECT * FROM reservations")}
        for row in rows:
            name = f"{row['adapter']}_v{row['number']}"
            directory = self._home / name
            if row["delete_time"] is not None:
                left = [
                    path.name for path in self._home.glob(f"{name}*") if path.name.removesuffix(".safetensors") == name
                ]
                self._expect(not left, f"of the deleted {name} there is left: {left}")
                continue
            deleted = (row["adapter"], row["number"]) in self._journal.deleted
            self._expect(not deleted, f"the acknowledged deletion of {name} is lost")
            for file in json.loads(row["files"]):
                path = directory / file["path"]
                whole = path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == file["sha256"]
                self._expect(whole, f"{name}/{file['path']} is not as its row says")
            flat, weights = self._home / f"{name}.safetensors", directory / "adapter_model.safetensors"
            self._expect(flat.exists() and flat.samefile(weights), f"the flat name of {name} is wrong")
            if weights.is_file():
                header, tensors = read_weights(weights)
                self._expect(header["__metadata__"]["name"] == name, f"the weights of {name} bear another name")
                expected = self.reference.setdefault(row["adapter"], tensors)
                self._expect(tensors == expected, f"{name} differs from the run that nobody interrupted")
        there = {path.name for path in self._home.iterdir() if path.is_dir() and not path.is_symlink()}
        nobodys = {name for name in there if not name.startswith(".")} - names - held
        self._expect(not nobodys, f"directories of nobody: {nobodys}")
        self.checked["versions"] = max(self.checked["versions"], len(rows))

    def _formats(self, connection: sqlite3.Connection) -> None:
        """A version's form is whole, or it is not there."""
        known = set()
        for row in connection.execute("SELECT * FROM version_formats"):
            directory = self._home / ".formats" / f"{row['adapter']}_v{row['number']}" / row["form"].lower()
            known.add(directory)
            for file in json.loads(row["files"]):
                path = directory / file["path"]
                whole = path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == file["sha256"]
                self._expect(whole, f"{path.relative_to(self._home)} is not as its row says")
        nobodys = set((self._home / ".formats").glob("*/*")) - known
        self._expect(not nobodys, f"forms of nobody: {nobodys}")
        self.checked["forms"] = max(self.checked["forms"], len(known))

    def _pointers(self, connection: sqlite3.Connection) -> None:
        """The pointer names a whole version; an acknowledged change of it survives; the files say what the row says."""
        there = "SELECT adapter, number FROM versions WHERE delete_time IS NULL"
        versions = {(row["adapter"], row["number"]) for row in connection.execute(there)}
        changes = {
            (row["adapter"], row["revision"]): row["active"] or 0
            for row in connection.execute("SELECT * FROM activations")
        }
        with self._journal.lock:
            acknowledged = dict(self._journal.changes)
        for key, active in acknowledged.items():
            self._expect(changes.get(key) == active, f"the acknowledged change {key} -> {active} is lost")
        for row in connection.execute("SELECT * FROM adapters"):
            adapter, active, revision = row["name"], row["active"], row["pointer_revision"]
            self._expect(active is None or (adapter, active) in versions, f"{adapter} points at nothing: {active}")
            if revision == 0:
                continue
            self._expect(changes[adapter, revision] == (active or 0), f"{adapter}: pointer and history differ")
            name = f"{adapter}_v{active}" if active else "base"
            link, words = self._home / adapter, json.loads((self._home / f"{adapter}.json").read_text())
            self._expect(
                (link.is_symlink() and str(link.readlink()) == name) or not active, f"the link {adapter} is stale"
            )
            self._expect(active is not None or not link.is_symlink(), f"the link {adapter} should be gone")
            self._expect(words == {"adapter": adapter, "active": name, "pointer_revision": revision}, f"{adapter}.json")
        self.checked["pointer changes"] = max(self.checked["pointer changes"], len(acknowledged))

    def _feedback(self, connection: sqlite3.Connection) -> None:
        stored = {row[0] for row in connection.execute("SELECT id FROM feedback")}
        lost = set(self._journal.feedback) - stored
        self._expect(not lost, f"acknowledged reviews are lost: {lost}")
        back = self._journal.forgotten & stored
        self._expect(not back, f"deleted reviews are back: {back}")
        self.checked["reviews"] = max(self.checked["reviews"], len(self._journal.feedback))


def read_weights(path: Path) -> tuple[dict[str, Any], str]:
    """The header of a safetensors file, and a digest of its tensors: their names, shapes, places and bytes.

    The header's metadata holds the version's name, which is the one thing that differs between two versions of the
    same training.
    """
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    tensors = {key: value for key, value in header.items() if key != "__metadata__"}
    digest = hashlib.sha256(json.dumps(tensors, sort_keys=True).encode() + content[8 + length :]).hexdigest()
    return header, digest
