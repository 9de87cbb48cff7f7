"""Receives a version's files in pieces and checks each against its size and digest."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Self

from lyra_adapters import convert
from lyra_adapters.errors import DataLoss
from lyra_adapters.models.base import Model
from lyra_adapters.models.versions import FileInfo
from lyra_adapters.v1 import adapter_service_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloaded(Model):
    """What a download wrote: the directory, and its files with their sizes and digests."""

    directory: str
    files: tuple[FileInfo, ...] = ()


class FileReceiver:
    """Writes pieces below a directory; a file gets its name only once it is whole and has its digest."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory)
        self._files: list[FileInfo] = []
        self._current: FileInfo | None = None
        self._out: IO[bytes] | None = None
        self._digest = hashlib.sha256()
        self._written = 0

    def feed(self, piece: pb.DownloadResponse) -> None:
        """Takes a piece in.

        Raises:
            DataLoss: The piece does not follow on the one before, or a file is not what its digest says.
        """
        if piece.HasField("contents"):
            return
        if piece.HasField("file"):
            self._complete()
            self._begin(convert.decode(FileInfo, piece.file))
        if self._out is None or piece.offset != self._written:
            raise DataLoss(f"A piece at offset {piece.offset} came after {self._written} bytes.", reason="PIECE_LOST")
        self._out.write(piece.data)
        self._digest.update(piece.data)
        self._written += len(piece.data)

    def finish(self) -> Downloaded:
        """Completes the last file.

        Raises:
            DataLoss: The last file is incomplete, or no file came at all.
        """
        self._complete()
        if not self._files:
            raise DataLoss("The server sent no file.", reason="PIECE_LOST")
        return Downloaded(directory=str(self._directory), files=tuple(self._files))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._discard()

    def _begin(self, file: FileInfo) -> None:
        path = PurePosixPath(file.path)
        # The server is trusted with weights, not with the rest of this disk.
        if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in file.path:
            raise DataLoss(f"The server sent a file with the path {file.path!r}.", reason="BAD_PATH")
        target = self._directory.joinpath(*path.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._out = tempfile.NamedTemporaryFile(dir=target.parent, prefix=".part-", delete=False)  # noqa: SIM115
        self._current, self._digest, self._written = file, hashlib.sha256(), 0

    def _complete(self) -> None:
        if self._current is None or self._out is None:
            return
        file = self._current
        if self._written != file.size_bytes or self._digest.hexdigest() != file.sha256:
            raise DataLoss(
                f"{file.path}: {self._written} of {file.size_bytes} bytes, or another digest than {file.sha256}.",
                reason="DIGEST_MISMATCH",
            )
        self._out.close()
        Path(self._out.name).replace(self._directory.joinpath(*PurePosixPath(file.path).parts))
        self._files.append(file)
        self._current = self._out = None

    def _discard(self) -> None:
        if self._out is not None:
            self._out.close()
            Path(self._out.name).unlink(missing_ok=True)
            self._current = self._out = None
