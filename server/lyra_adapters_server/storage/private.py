"""Files 0600 and directories 0700: what a server keeps is its user's alone, whatever the umask was."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import structlog

log = structlog.get_logger()

OF_OTHERS = 0o077


def private_directory(directory: Path) -> None:
    """Makes a directory, if it is not there, and closes it to other users; what is in it stays as it is."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _close(directory)


def close_to_others(path: Path) -> None:
    """Closes a file, or a directory and everything below, to other users. Links are not followed.

    What another user owns stays as it is, and is logged: on some mounts nothing else is possible.
    """
    _close(path)
    if path.is_dir() and not path.is_symlink():
        for folder, directories, files in os.walk(path):
            for name in (*directories, *files):
                _close(Path(folder, name))


def _close(path: Path) -> None:
    try:
        found = path.lstat()
        if not stat.S_ISLNK(found.st_mode) and found.st_mode & OF_OTHERS:
            path.chmod(stat.S_IMODE(found.st_mode) & ~OF_OTHERS)
    except FileNotFoundError:
        pass  # Another server's temporary file, gone meanwhile.
    except PermissionError:
        log.warning("open_to_others", path=str(path), mode=f"{stat.S_IMODE(found.st_mode):04o}")
