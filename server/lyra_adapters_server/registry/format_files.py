"""A form's files on disk: put in their place whole and durably, looked at before use, and mended at start-up."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection

from lyra_adapters_server import failpoints
from lyra_adapters_server.registry.layout import Layout, put_away, sync_directory, sync_tree
from lyra_adapters_server.registry.names import full_name
from lyra_adapters_server.storage import formats as store
from lyra_adapters_server.storage.formats import FormatRecord

log = structlog.get_logger()


def seal(stage: Path) -> list[dict[str, Any]]:
    """Waits until what was made is on disk; gives path, size and SHA-256 of each file, in the order of their paths."""
    files = [_describe(stage, path) for path in sorted(stage.rglob("*")) if path.is_file()]
    sync_tree(stage)
    return files


def place_format(layout: Layout, connection: Connection, stage: Path, record: FormatRecord) -> None:
    """Gives sealed files the form's name, and the form its row.

    Under the database's write lock, so that nobody else touches the name. What lies there is replaced: it has no row,
    or was found to differ from it.
    """
    target = layout.format(record.adapter, record.number, record.form)
    for directory in (layout.formats, target.parent):
        directory.mkdir(mode=0o700, exist_ok=True)
    put_away(layout, target)
    with failpoints.step("format.rename"):
        stage.rename(target)
        for directory in (target.parent, layout.formats, layout.home):
            sync_directory(directory)
    store.put_format(connection, record)


def is_whole(layout: Layout, record: FormatRecord) -> bool:
    """Whether every file is there in the size it had."""
    directory = layout.format(record.adapter, record.number, record.form)
    try:
        return all((directory / file["path"]).stat().st_size == file["size_bytes"] for file in record.files)
    except OSError:
        return False


def mend_formats(layout: Layout, connection: Connection) -> int:
    """Makes rows and directories agree, and gives the number of those that did not.

    A form that is lost is made again when somebody asks for it.
    """
    count = 0
    known: set[Path] = set()
    for record in store.all_formats(connection):
        if is_whole(layout, record):
            known.add(layout.format(record.adapter, record.number, record.form))
            continue
        version = full_name(record.adapter, record.number)
        log.info("mended", what="a form whose files are gone is forgotten", version=version, form=record.form)
        store.delete_format(connection, record.adapter, record.number, record.form)
        count += 1
    for directory in sorted(set(layout.formats.glob("*/*")) - known):
        log.info("mended", what="files without a row are removed", path=str(directory.relative_to(layout.home)))
        put_away(layout, directory)
        count += 1
    return count


def _describe(root: Path, path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"path": path.relative_to(root).as_posix(), "size_bytes": path.stat().st_size, "sha256": digest}
