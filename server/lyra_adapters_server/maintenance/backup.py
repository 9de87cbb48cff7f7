"""Backs a registry up while its server runs, and restores it into an empty home.

A backup is a directory: a copy of the database as it was at one moment (SQLite's online backup), the directory of every
version that the copy names, and `backup.json` with the digest of the copy. Versions never change, so they need no
lock; their digests are checked against the copied rows. What is half done is left out: jobs that wait or run are in
the copy, and begin again after a restore.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import sqlite3
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lyra_adapters_server.registry.layout import Layout, sync_tree
from lyra_adapters_server.registry.names import full_name
from lyra_adapters_server.registry.publish import wrong_files
from lyra_adapters_server.registry.repair import repair
from lyra_adapters_server.scope import EVERYTHING
from lyra_adapters_server.storage import jobs
from lyra_adapters_server.storage import versions as store
from lyra_adapters_server.storage.database import Database
from lyra_adapters_server.storage.versions import VersionRecord

MANIFEST = "backup.json"
FORMAT = 1
# A version that is deleted while it is copied makes the copy be taken again.
TRIES = 5


class BackupError(Exception):
    """A backup can't be made, or can't be restored; the message says why and what to do."""


@dataclass(frozen=True)
class Summary:
    """What a backup holds."""

    versions: int
    jobs: int
    size_bytes: int


def back_up(layout: Layout, to: Path) -> Summary:
    """Makes a backup in a directory that is empty or not there. It appears whole. Raises BackupError."""
    if not layout.database.is_file():
        raise BackupError(f"{layout.home} holds no registry.db; check --home")
    if to.resolve().is_relative_to(layout.home.resolve()):
        raise BackupError(f"{to} is inside the registry's home; a backup belongs on another disk")
    return _whole(to, lambda fresh: _copy_registry(layout, fresh))


def restore(source: Path, layout: Layout) -> Summary:
    """Restores a backup into a home that is empty or not there. Raises BackupError."""
    manifest = _read_manifest(source)
    database = source / "registry.db"
    if not database.is_file() or _digest(database) != manifest["database_sha256"]:
        raise BackupError(f"{database} is not as {MANIFEST} says; use another backup")

    def fill(fresh: Path) -> Summary:
        copy = Layout(fresh)
        shutil.copyfile(database, copy.database)
        for version in _versions(copy):
            _copy_version(version, Layout(source), copy)
        copy.prepare()
        restored = Database(copy.database)
        try:
            restored.migrate()
            repair(copy, restored)
        finally:
            restored.close()
        return _summary(copy)

    return _whole(layout.home, fill)


def _whole(target: Path, fill: Callable[[Path], Summary]) -> Summary:
    """Fills a directory beside the target, and gives it its name once it is complete and on disk."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BackupError(f"{target} is not empty, and nothing is overwritten; name a new directory")
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.parent / f".{target.name}-{uuid.uuid4().hex}"
    fresh.mkdir(mode=0o700)
    try:
        summary = fill(fresh)
        sync_tree(fresh)
        # A rename replaces an empty directory.
        fresh.rename(target)
    except OSError as error:
        raise BackupError(f"{error.strerror}: {error.filename or target}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return summary


def _copy_registry(layout: Layout, fresh: Path) -> Summary:
    copy = Layout(fresh)
    for attempt in range(1, TRIES + 1):
        _copy_database(layout, copy)
        try:
            for version in _versions(copy):
                _copy_version(version, layout, copy)
            break
        except BackupError:
            if attempt == TRIES or not _deleted_since(layout, copy):
                raise
    summary = _summary(copy)
    manifest = {
        "format": FORMAT,
        "lyra_adapters": importlib.metadata.version("lyra-adapters"),
        "create_time": datetime.now(UTC).isoformat(timespec="seconds"),
        "database_sha256": _digest(copy.database),
        "versions": summary.versions,
        "jobs": summary.jobs,
    }
    (fresh / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return summary


def _copy_database(layout: Layout, copy: Layout) -> None:
    """One moment of the database, without the leases of the server that runs."""
    copy.database.unlink(missing_ok=True)
    source = sqlite3.connect(f"file:{layout.database}?mode=ro", uri=True, timeout=30)
    target = sqlite3.connect(copy.database)
    try:
        source.backup(target)
        target.execute("UPDATE jobs SET lease_owner = NULL, lease_until = NULL")
        target.commit()
        # One file, nothing beside it.
        target.execute("PRAGMA journal_mode = DELETE")
        if (damage := target.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
            raise BackupError(f"the database is damaged ({damage}); `lyra-adapters doctor` says more")
    finally:
        target.close()
        source.close()


def _copy_version(version: VersionRecord, source: Layout, copy: Layout) -> None:
    directory = copy.version(version.adapter, version.number)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    for file in version.files:
        path = source.version(version.adapter, version.number) / file["path"]
        if path.is_file():
            shutil.copyfile(path, directory / file["path"])
    if wrong := wrong_files(directory, version.files):
        name = full_name(version.adapter, version.number)
        raise BackupError(
            f"{source.home / name}: {', '.join(wrong)} missing or not as the registry says; delete the version or "
            "restore it first (`lyra-adapters doctor` says more)"
        )


def _deleted_since(layout: Layout, copy: Layout) -> bool:
    """Whether the registry has fewer of the copy's versions by now."""
    there = {(version.adapter, version.number) for version in _versions(layout)}
    return any((version.adapter, version.number) not in there for version in _versions(copy))


def _versions(layout: Layout) -> list[VersionRecord]:
    database = Database(layout.database, read_only=True)
    try:
        return database.read_now(lambda connection: store.page_of_versions(connection, scope=EVERYTHING, limit=-1)[0])
    finally:
        database.close()


def _summary(copy: Layout) -> Summary:
    database = Database(copy.database, read_only=True)
    try:
        count = database.read_now(lambda connection: jobs.page_of_jobs(connection, scope=EVERYTHING, limit=1)[1])
    finally:
        database.close()
    versions = _versions(copy)
    return Summary(len(versions), count, sum(path.stat().st_size for path in copy.home.rglob("*") if path.is_file()))


def _read_manifest(source: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((source / MANIFEST).read_text())
    except (OSError, ValueError):
        raise BackupError(f"{source} holds no {MANIFEST}, so it is no complete backup") from None
    if manifest.get("format") != FORMAT:
        raise BackupError(f"{source} has format {manifest.get('format')}; this version reads format {FORMAT}")
    return manifest


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
