"""Unpacks what was downloaded: Python before 3.11.4 has no filters, and later ones warn where none is named."""

from __future__ import annotations

import tarfile
from pathlib import Path


def unpack(archive: tarfile.TarFile, directory: Path) -> None:
    """Writes an archive's plain files into a directory."""
    for member in archive:
        content = archive.extractfile(member)
        if content is not None:
            path = directory / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.read())
