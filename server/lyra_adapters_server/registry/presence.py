"""Which servers on a registry live: each holds a lock on a file of its own, which ends with its process.

A lease alone can't tell a server that died from one that is slow, so the next server would wait for every lease to run
out. A lock that can be taken says that its server is dead. One that can't says nothing: a stopped process keeps its
locks, and then the lease decides.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from pathlib import Path
from types import TracebackType


class Presence:
    """The sign that this server lives. A context manager."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # The name under which it holds leases.
        self.owner = uuid.uuid4().hex
        self._descriptor: int | None = None

    def __enter__(self) -> Presence:
        """Makes and locks the file; the name appears when it is locked, so that nobody takes it for a dead one's."""
        fresh = self._directory / f"{self.owner}.new"
        self._descriptor = os.open(fresh, os.O_CREAT | os.O_RDWR | os.O_EXCL, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fresh.rename(self._directory / self.owner)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Lets go."""
        (self._directory / self.owner).unlink(missing_ok=True)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def gone(directory: Path, owner: str) -> bool:
    """Whether this server is known to be dead. False where nothing is known."""
    return _locked(directory / owner) is False


def living(directory: Path) -> list[str]:
    """The servers that hold their lock."""
    if not directory.is_dir():
        return []
    return sorted(path.name for path in directory.iterdir() if not path.suffix and _locked(path))


def forget_dead(directory: Path) -> int:
    """Removes the files of dead servers; returns how many."""
    dead = [path for path in directory.iterdir() if not path.suffix and _locked(path) is False]
    for path in dead:
        path.unlink(missing_ok=True)
    return len(dead)


def _locked(path: Path) -> bool | None:
    """Whether a process holds the lock; None if there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
