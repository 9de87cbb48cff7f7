"""Notices when files were replaced, so that what they hold is taken up without a restart."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

# Two changes within a tick of the file system's clock look like one; so young files are read again each time.
SETTLED_S = 2.0
# But not at each of thousands of calls.
LOOK_AGAIN_S = 0.1

Signature = tuple[tuple[int, ...] | None, ...]


class Watched:
    """Files that may be replaced at any time, by a rename, a link's new target, or in place."""

    def __init__(self, *paths: Path) -> None:
        self._paths: Sequence[Path] = paths
        self._seen: Signature | None = None
        self._looked = 0.0

    def changed(self) -> bool:
        """Whether the files may be others than at the last call; the first call says yes."""
        signature = self.signature()
        young = any(one is not None and time.time_ns() - one[0] < SETTLED_S * 1e9 for one in signature)
        now = time.monotonic()
        if signature == self._seen and not (young and now - self._looked >= LOOK_AGAIN_S):
            return False
        self._seen, self._looked = signature, now
        return True

    def signature(self) -> Signature:
        """Changes whenever a file is replaced, written, or given other permissions."""
        return tuple(_signature(path) for path in self._paths)


def _signature(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    # The time of the last change first: permissions count as one.
    return found.st_ctime_ns, found.st_mtime_ns, found.st_dev, found.st_ino, found.st_size
