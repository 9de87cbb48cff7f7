"""Space set aside in the home: on a full disk it is given up, so that a failure or a deletion can be written down."""

from __future__ import annotations

import os
from pathlib import Path

from lyra_adapters_server.storage.trouble import FULL_DISK, disk_full

# A job's end, a change of the pointer or a deletion writes some 100 KiB: pages of the database's log, links, a file.
RESERVE_BYTES = 1 << 20

RESERVE_FILE = ".reserve"


class Reserve:
    """A file that holds nothing but its place."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def held(self) -> bool:
        """Whether the space is set aside."""
        try:
            return self._path.stat().st_blocks * 512 >= RESERVE_BYTES
        except FileNotFoundError:
            return False

    def hold(self) -> None:
        """Sets the space aside, unless it is. Raises StorageFailed where the disk has no room for it, and OSError.

        Asked before anything is begun that may have to be written down on a full disk later.
        """
        if self.held:
            return
        try:
            descriptor = os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600)
            try:
                _fill(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._path.unlink(missing_ok=True)
            if error.errno in FULL_DISK:
                raise disk_full() from error
            raise

    def release(self) -> bool:
        """Gives the space up; False if there was none."""
        held = self.held
        self._path.unlink(missing_ok=True)
        return held


def _fill(descriptor: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
    else:
        # macOS has no such call. Random bytes: a file system that compresses would give zeros no place.
        os.write(descriptor, os.urandom(RESERVE_BYTES))
