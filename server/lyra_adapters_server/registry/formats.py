"""The forms in which a version can be handed out, and where the files of each lie.

PEFT is what is published, so every version has it. Another form is there if somebody made it: `Formats` is given one
`Maker` for each, which answers with the files of a version in its form, made before or made now. A maker

- is awaited for each Download, so it looks first whether the files are there, and makes them once for all callers;
- leaves them in a directory that is complete, on disk and never changed again (`publish.py` shows how), with size and
  SHA-256 of each file kept, not computed at each call;
- refuses what an engine cannot take with FAILED_PRECONDITION and `FORMAT_NOT_AVAILABLE`: see `not_available`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from lyra_adapters_server.errors import Kind, Refusal
from lyra_adapters_server.registry.layout import Layout
from lyra_adapters_server.registry.names import full_name
from lyra_adapters_server.storage.versions import VersionRecord


class Format(StrEnum):
    """The form of a version's files (protos: AdapterFormat)."""

    PEFT = "PEFT"
    GGUF = "GGUF"
    OLLAMA = "OLLAMA"
    MERGED = "MERGED"


@dataclass(frozen=True)
class StoredFile:
    """A file: its path below the directory (with `/`), size in bytes, and SHA-256 in hexadecimal."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class FormatFiles:
    """The files of a version in one form, and the directory they lie in."""

    directory: Path
    files: tuple[StoredFile, ...]


# Answers with a version's files in one form, made before or made now. Raises Refusal.
Maker = Callable[[VersionRecord], Awaitable[FormatFiles]]


class Formats:
    """Finds a version's files in any form.

    Args:
        layout: Where versions lie.
        makers: Who has, or makes, the other forms.
    """

    def __init__(self, layout: Layout, makers: Mapping[Format, Maker] | None = None) -> None:
        self._layout = layout
        self._makers = dict(makers or {})

    async def find(self, version: VersionRecord, form: Format) -> FormatFiles:
        """The files. Raises Refusal if the version can't be had in this form."""
        if form is Format.PEFT:
            return FormatFiles(
                self._layout.version(version.adapter, version.number),
                tuple(StoredFile(file["path"], int(file["size_bytes"]), file["sha256"]) for file in version.files),
            )
        maker = self._makers.get(form)
        if maker is None:
            raise not_available(version, form, "this server does not make it")
        return await maker(version)


def not_available(version: VersionRecord, form: Format, why: str) -> Refusal:
    """Refuses a form that a version can't be had in; `why` goes on after "because"."""
    return Refusal(
        Kind.FAILED_PRECONDITION,
        "FORMAT_NOT_AVAILABLE",
        f"{full_name(version.adapter, version.number)} can't be had as {form}, because {why}.",
        metadata={"format": form.value},
    )
