"""The directory on the serving host: whole versions, a link to the one in force, and the same in words.

    user_feedback_v3/                   a version, complete and checked before it has its name
    user_feedback -> user_feedback_v3   what is in force; absent while `base` is
    user_feedback.json                  what is in force, in words; `base` too

All else begins with a dot and is this process's own: `.user_feedback.lock`, `.user_feedback_v3.part` (on its way),
`.user_feedback.hooks.json`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lyra_adapters.errors import AlreadyExists, FailedPrecondition
from lyra_adapters.files import lock_directory, remove, replace_file, sync
from lyra_adapters.models.base import Model
from lyra_adapters.models.versions import PointerChange
from lyra_adapters.pull.names import BASE, is_version


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce(Model):
    """What the state file says.

    Attributes:
        adapter: The adapter.
        active: Full name of the version in force, or `base`.
        pointer_revision: The pointer's revision.
        format: The form of the files.
        path: The version's directory; empty while `base` is in force.
        recent: Full names of versions that were in force here, newest first, without the one that is.
        time: When the link was switched.
    """

    adapter: str
    active: str
    pointer_revision: int
    format: str = ""
    path: str = ""
    recent: tuple[str, ...] = ()
    time: str = ""


class HostDirectory:
    """One adapter's part of a directory; a context manager that keeps others from changing it.

    Args:
        root: The directory; made where it is missing.
        adapter: The adapter, a valid name.
    """

    def __init__(self, root: Path, adapter: str) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow the last link
        self.adapter = adapter
        self.link = self.root / adapter
        self.state_file = self.root / f"{adapter}.json"
        self._hooks_file = self.root / f".{adapter}.hooks.json"
        self._lock_path = self.root / f".{adapter}.lock"
        self._lock: int | None = None

    def __enter__(self) -> HostDirectory:
        """Takes the directory.

        Raises:
            FailedPrecondition: Another pull keeps this adapter there (reason PULL_UNDER_WAY).
            AlreadyExists: Something that is no link stands where the link belongs (reason FILE_EXISTS).
            OSError: The directory can't be made or written.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        try:
            self._lock = lock_directory(self._lock_path)
        except FailedPrecondition:
            raise FailedPrecondition(
                f"Another pull keeps {self.adapter} in {self.root}. Stop it first, or choose another directory.",
                reason="PULL_UNDER_WAY",
            ) from None
        try:
            self._check_link()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            with contextlib.suppress(OSError):
                self._lock_path.rmdir()
            os.close(self._lock)
            self._lock = None

    def version(self, name: str) -> Path:
        """A version's directory. What stands there and is none, a link for instance, is removed."""
        assert is_version(self.adapter, name)
        path = self.root / name
        if path.is_symlink() or (os.path.lexists(path) and not path.is_dir()):
            remove(path)
        return path

    def state(self) -> InForce | None:
        """What the state file says; None if it is not there or can't be read."""
        found = _read_json(self.state_file)
        try:
            return InForce(
                adapter=str(found["adapter"]),
                active=str(found["active"]),
                pointer_revision=int(found["pointer_revision"]),
                format=str(found.get("format", "")),
                path=str(found.get("path", "")),
                recent=tuple(name for name in found.get("recent", ()) if is_version(self.adapter, str(name))),
                time=str(found.get("time", "")),
            )
        except (KeyError, TypeError, ValueError):
            return None

    def switch(self, change: PointerChange, form: str) -> InForce:
        """Puts a version in force whose directory is whole, or `base`: first the link, then the state file.

        Harmless to repeat.

        Raises:
            AlreadyExists: Something that is no link stands where the link belongs.
            OSError: The disk is full, or can't be written.
        """
        self._check_link()
        before = self.state()
        recent = [] if before is None else [before.active, *before.recent]
        if change.active == BASE:
            self.link.unlink(missing_ok=True)
        elif self._linked() != change.active:
            fresh = self.root / f".{self.adapter}.{uuid.uuid4().hex}.link"
            fresh.symlink_to(change.active)
            fresh.replace(self.link)
        sync(self.root)
        state = InForce(
            adapter=self.adapter,
            active=change.active,
            pointer_revision=change.pointer_revision,
            format=form,
            path="" if change.active == BASE else str(self.root / change.active),
            recent=tuple(dict.fromkeys(name for name in recent if name not in (BASE, change.active))),
            time=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )
        replace_file(self.state_file, json.dumps(state.to_dict(), indent=2).encode() + b"\n")
        return state

    def clean(self, wanted: str) -> None:
        """Removes what killed processes left, except the beginning of a version that is wanted."""
        name = re.escape(self.adapter)
        fresh = r"[0-9a-f]{32}"
        ours = re.compile(
            rf"\.{name}_v[0-9]+\.part|\.{name}\.{fresh}\.link|\.{name}\.json\.{fresh}\.new|\.\.{name}\.hooks\.json\.{fresh}\.new"
        )
        for path in self.root.iterdir():
            if path.name == f".{wanted}.part" or not ours.fullmatch(path.name):
                continue
            if path.is_dir() and not path.is_symlink():
                try:
                    held = lock_directory(path)
                except FailedPrecondition:
                    # A download beside this pull.
                    continue
                remove(path)
                os.close(held)
            else:
                remove(path)

    def prune(self, keep: int) -> list[str]:
        """Removes all versions but the one in force and the `keep` in force here last; returns their names."""
        state = self.state()
        if state is None:
            return []
        kept = {state.active, self._linked(), *state.recent[:keep]}
        versions = [path for path in self.root.iterdir() if is_version(self.adapter, path.name)]
        removed = sorted(path.name for path in versions if path.is_dir() and path.name not in kept)
        for name in removed:
            remove(self.root / name)
        return removed

    def told(self) -> dict[str, Any]:
        """What hooks were last told, by their names."""
        return _read_json(self._hooks_file)

    def note_told(self, told: dict[str, Any]) -> None:
        """Keeps what hooks were told."""
        replace_file(self._hooks_file, json.dumps(told, indent=2).encode() + b"\n")

    def _linked(self) -> str:
        """What the link names; empty if it is not there."""
        try:
            return str(self.link.readlink())
        except OSError:
            return ""

    def _check_link(self) -> None:
        if os.path.lexists(self.link) and not self.link.is_symlink():
            raise AlreadyExists(
                f"{self.link} is there and is no link; the link to the version in force belongs there. Move it away.",
                reason="FILE_EXISTS",
            )


def _read_json(path: Path) -> dict[str, Any]:
    """A file's JSON object; empty if it is not there or can't be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
