"""Files, and all files of a version as one tar, as bytes that can be read from any place on, the same each time."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tarfile
from collections import OrderedDict
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from lyra_adapters_server.errors import Kind, Refusal
from lyra_adapters_server.registry.formats import FormatFiles, StoredFile

CHUNK_BYTES = 512 * 1024
# Archives whose digest is remembered: reading gigabytes once more at each resumption would be felt.
REMEMBERED = 256


@dataclass(frozen=True)
class Piece:
    """Bytes that stand together: a file's, or those given."""

    size: int
    path: Path | None = None
    data: bytes = b""


@dataclass(frozen=True)
class Source:
    """What can be sent: its name, size and digest, and the pieces that make it up."""

    file: StoredFile
    pieces: tuple[Piece, ...]

    async def read(self, offset: int) -> AsyncGenerator[bytes, None]:
        """The bytes from an offset on, in chunks, read on threads.

        No file stays open between two chunks, so a slow reader holds nothing.

        Raises:
            Refusal: A file is missing, or has another size than it had.
        """
        while offset < self.file.size_bytes:
            chunk = await asyncio.to_thread(self.chunk, offset)
            yield chunk
            offset += len(chunk)

    def chunk(self, offset: int) -> bytes:
        """Up to CHUNK_BYTES from an offset on; empty at the end. Blocks. Raises Refusal."""
        found: list[bytes] = []
        missing = CHUNK_BYTES
        for piece in self.pieces:
            if offset < piece.size and missing:
                found.append(_read(piece, offset, missing))
                missing -= len(found[-1])
                offset += len(found[-1])
            offset -= piece.size
        return b"".join(found)


def file_source(found: FormatFiles, file: StoredFile) -> Source:
    """One file."""
    return Source(file, (Piece(file.size_bytes, found.directory / file.path),))


async def archive_source(found: FormatFiles, name: str, suffix: str, time_s: int) -> Source:
    """All files as one tar, below a directory.

    Args:
        found: The files.
        name: The directory in the archive: the version's full name.
        suffix: What stands between the name and `.tar` in the archive's own name.
        time_s: Time of change of all files, in seconds since the epoch; the version's, so that the bytes stay the same.
    """
    pieces: list[Piece] = []
    for file in found.files:
        info = tarfile.TarInfo(f"{name}/{file.path}")
        info.size, info.mtime, info.mode = file.size_bytes, time_s, 0o644
        header = info.tobuf(tarfile.PAX_FORMAT)
        pieces.append(Piece(len(header), data=header))
        pieces.append(Piece(file.size_bytes, found.directory / file.path))
        pieces.append(_zeros(-file.size_bytes % tarfile.BLOCKSIZE))
    # The end of an archive is two empty blocks, and its size a whole number of records.
    size = sum(piece.size for piece in pieces) + 2 * tarfile.BLOCKSIZE
    pieces.append(_zeros(2 * tarfile.BLOCKSIZE + -size % tarfile.RECORDSIZE))
    size += -size % tarfile.RECORDSIZE
    path = f"{name}{suffix}.tar"
    bare = Source(StoredFile(path, size, ""), tuple(piece for piece in pieces if piece.size))
    key = (path, time_s, *(file.sha256 for file in found.files))
    if key not in _digests:
        _digests[key] = await asyncio.to_thread(_digest, bare)
        while len(_digests) > REMEMBERED:
            _digests.popitem(last=False)
    return Source(StoredFile(path, size, _digests[key]), bare.pieces)


_digests: OrderedDict[tuple[object, ...], str] = OrderedDict()


def _digest(source: Source) -> str:
    digest = hashlib.sha256()
    offset = 0
    while chunk := source.chunk(offset):
        digest.update(chunk)
        offset += len(chunk)
    return digest.hexdigest()


def _zeros(size: int) -> Piece:
    return Piece(size, data=bytes(size))


def _read(piece: Piece, offset: int, limit: int) -> bytes:
    """Up to `limit` bytes of a piece from an offset in it on. Raises Refusal."""
    if piece.path is None:
        return piece.data[offset : offset + limit]
    wanted = min(limit, piece.size - offset)
    try:
        with piece.path.open("rb") as file:
            file.seek(offset)
            data = file.read(wanted)
            whole = os.fstat(file.fileno()).st_size == piece.size and len(data) == wanted
    except OSError:
        whole = False
    if not whole:
        raise Refusal(
            Kind.DATA_LOSS,
            "VERSION_DAMAGED",
            f"On the server {piece.path.parent.name}/{piece.path.name} can't be read, or has another size than when it "
            "was made. Put it back from a copy, or train again.",
        )
    return data
