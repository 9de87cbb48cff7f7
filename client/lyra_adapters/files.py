"""Receives files into a hidden directory, checks each against its digest, and lets them out only once all are whole."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from lyra_adapters.errors import AlreadyExists, DataLoss, FailedPrecondition
from lyra_adapters.models.base import Model
from lyra_adapters.models.versions import AdapterFormat, FileInfo

BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloaded(Model):
    """What a download brought.

    Attributes:
        directory: Where the files are.
        files: The files, with their paths below the directory, sizes and digests.
        adapter: The adapter.
        version: The version, `v3`.
        format: The form of the files.
    """

    directory: str
    files: tuple[FileInfo, ...] = ()
    adapter: str = ""
    version: str = ""
    format: AdapterFormat = AdapterFormat.UNSPECIFIED


def safe_path(path: str) -> PurePosixPath:
    """A path that a server sent, if it stays below the directory it is meant for.

    Raises:
        DataLoss: It does not. The server is trusted with weights, not with the rest of this disk.
    """
    parts = PurePosixPath(path).parts
    odd = any(not char.isprintable() or char in "\\:" for char in path)
    long = any(len(part.encode("utf-8", "replace")) > 255 for part in parts)
    if not parts or path.startswith("/") or ".." in parts or odd or long:
        raise DataLoss(f"The server sent a file with the path {path[:200]!r}.", reason="BAD_PATH")
    return PurePosixPath(*parts)


def has_digest(path: Path, file: FileInfo) -> bool:
    """Whether a regular file (no link) is there with the size and the digest."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as content:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != file.size_bytes:
            return False
        return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256


class PartFile:
    """A file on its way; what an earlier try left of it is kept and gone on from."""

    def __init__(self, path: Path, file: FileInfo) -> None:
        self.file = file
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        self._out = os.fdopen(descriptor, "r+b")
        self._digest = hashlib.sha256()
        self.offset = 0
        while block := self._out.read(BLOCK):
            self._digest.update(block)
            self.offset += len(block)
        if self.offset > file.size_bytes or (self.complete and not self.right):
            self.restart()

    @property
    def complete(self) -> bool:
        """Whether all bytes are there."""
        return self.offset == self.file.size_bytes

    @property
    def right(self) -> bool:
        """Whether what is there has the digest."""
        return self._digest.hexdigest() == self.file.sha256

    def restart(self) -> None:
        """Forgets what is there."""
        self._out.seek(0)
        self._out.truncate()
        self._digest, self.offset = hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        """Appends bytes."""
        self._out.write(data)
        self._digest.update(data)
        self.offset += len(data)

    def finish(self) -> None:
        """Waits until the file is on disk.

        Raises:
            DataLoss: It does not have its size or its digest.
        """
        if not self.complete or not self.right:
            raise DataLoss(
                f"{self.file.path}: {self.offset} of {self.file.size_bytes} bytes, or another digest than "
                f"{self.file.sha256}.",
                reason="DIGEST_MISMATCH",
            )
        self._out.flush()
        os.fsync(self._out.fileno())

    def close(self) -> None:
        """Closes the file; what could not be written any more is not."""
        with contextlib.suppress(OSError):
            self._out.close()


class Reception:
    """The files of a download on their way to a directory; a context manager.

    A directory that is not there yet appears at once with all its files. One that is there gets each file when all are
    whole. Left early, nothing stays behind, or with `keep_partial` only the hidden directory that a next try goes on
    from.

    Args:
        to: The directory.
        files: The files to come.
        overwrite: Replace files that are there with other content, and a directory that is not as the files say.
        keep_partial: Keep what has come when the download breaks.

    Raises:
        AlreadyExists: A file is there with other content (reason FILE_EXISTS).
        FailedPrecondition: Another download to this place is under way (reason DOWNLOAD_UNDER_WAY).
        OSError: The disk is full, or can't be written.
    """

    def __init__(
        self, to: Path, files: tuple[FileInfo, ...], *, overwrite: bool = False, keep_partial: bool = False
    ) -> None:
        self._to = to
        self._files = {safe_path(file.path): file for file in files}
        if len(self._files) < len(files) or not files:
            raise DataLoss("The server sent no file, or one path twice.", reason="BAD_PATH")
        self._overwrite = overwrite
        self._keep_partial = keep_partial
        # A directory that is not there yet gets its name only when it is complete.
        self._fresh = not os.path.lexists(to)
        self._stage = to.parent / f".{to.name}.part" if self._fresh else to / ".download.part"
        self._lock: int | None = None
        self._missing: dict[PurePosixPath, FileInfo] = {}

    def __enter__(self) -> Self:
        self._missing = {p: file for p, file in self._files.items() if not has_digest(self._to / p, file)}
        if not self._missing:
            return self
        if not self._fresh and not self._overwrite:
            taken = [str(path) for path in self._missing if os.path.lexists(self._to / path)]
            if taken:
                raise AlreadyExists(
                    f"{self._to} has {taken[0]} with other content; it was left as it is. Choose another directory, "
                    "or allow to overwrite.",
                    reason="FILE_EXISTS",
                )
        self._stage.parent.mkdir(parents=True, exist_ok=True)
        self._lock = lock_directory(self._stage)
        if any(path.is_symlink() for path in self._stage.rglob("*")):
            # Not of ours: a link could lead out of here.
            remove(self._stage, content_only=True)
        self._check_space()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is None:
            return
        # A full disk must not stay full.
        if not (self._keep_partial and error is not None and not isinstance(error, OSError)):
            with contextlib.suppress(OSError):
                remove(self._stage)
        os.close(self._lock)
        self._lock = None

    def parts(self) -> Iterator[PartFile]:
        """The files that are still to come, one after the other; each is finished before the next."""
        for path, file in self._missing.items():
            part = PartFile(self._stage / path, file)
            try:
                yield part
                part.finish()
            finally:
                part.close()

    def finish(self) -> None:
        """Lets the files out, durably."""
        if not self._missing:
            return
        for staged in self._stage.rglob("*"):
            # What an earlier try for other files left.
            if not staged.is_dir() and PurePosixPath(staged.relative_to(self._stage)) not in self._missing:
                staged.unlink()
        for staged in [self._stage, *self._stage.rglob("*")]:
            if staged.is_dir():
                sync(staged)
        if self._fresh and not os.path.lexists(self._to):
            self._stage.rename(self._to)
            sync(self._to.parent)
            return
        for path in self._missing:
            target = self._to / path
            _make_below(self._to, path.parent)
            if target.is_dir() and not target.is_symlink():
                remove(target)
            (self._stage / path).replace(target)
            sync(target.parent)

    def _check_space(self) -> None:
        """Refuses at once what will not fit."""
        there = sum(path.stat().st_size for path in self._stage.rglob("*") if path.is_file())
        need = sum(file.size_bytes for file in self._missing.values()) - there
        free = shutil.disk_usage(self._stage).free
        if need > free:
            why = f"No space left on device: {need:,} bytes are needed and {free:,} are free"
            error = OSError(errno.ENOSPC, why, str(self._to))
            self.__exit__(OSError, error, None)
            raise error


def lock_directory(path: Path) -> int:
    """Makes a directory, if it is not there, and takes it for this process; returns the descriptor that holds it.

    Raises:
        FailedPrecondition: Another process has it.
    """
    import fcntl  # not on every system that can use the client

    while True:
        if path.is_symlink():
            path.unlink()
        path.mkdir(exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it may have finished in between: then this is no longer what the path names.
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise FailedPrecondition(
                f"Another download to {path} is under way; let it finish.", reason="DOWNLOAD_UNDER_WAY"
            ) from None
        except FileNotFoundError:
            pass
        os.close(descriptor)


def remove(path: Path, *, content_only: bool = False) -> None:
    """Removes what a path names, never what a link leads to."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    elif content_only:
        for child in path.iterdir():
            remove(child)
    else:
        shutil.rmtree(path)


def replace_file(path: Path, content: bytes) -> None:
    """Gives a file new content, so that at any moment, and after a power cut, it has the old or the new one."""
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex}.new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(directory: Path) -> None:
    """Waits until a directory's entries are on disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_below(root: Path, below: PurePosixPath) -> None:
    """Makes directories below a root; a link among them is no way to follow. Raises AlreadyExists."""
    at = root
    for part in below.parts:
        at = at / part
        if at.is_symlink():
            raise AlreadyExists(f"{at} is a link; files are not written through it.", reason="FILE_EXISTS")
        at.mkdir(exist_ok=True)
