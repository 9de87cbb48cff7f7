"""Mends what doctor.py finds and can be mended. Safe beside a running server: it works as start-up does (repair.py)."""

from __future__ import annotations

import uuid
from contextlib import suppress

from sqlalchemy import Connection

from lyra_adapters_server.maintenance.doctor import Finding, examine, private_paths, saved_by_flat_name
from lyra_adapters_server.registry.layout import ADAPTER_FILE, Layout, sync_directory
from lyra_adapters_server.registry.publish import wrong_files
from lyra_adapters_server.registry.repair import repair
from lyra_adapters_server.scope import EVERYTHING
from lyra_adapters_server.storage import versions as store
from lyra_adapters_server.storage.database import Database
from lyra_adapters_server.storage.formats import all_formats, delete_format


def mend(layout: Layout, found: list[Finding]) -> list[Finding]:
    """Mends and returns what is left. Raises SchemaTooNew, StorageFailed."""
    if not any(finding.mendable for finding in found):
        return found
    for path, mode in private_paths(layout):
        with suppress(FileNotFoundError):
            if path.lstat().st_mode & 0o777 & ~mode:
                path.chmod(mode)
    layout.prepare()
    database = Database(layout.database)
    try:
        database.write_now(lambda connection: _weights_from_flat_names(layout, connection))
        database.write_now(lambda connection: _forget_damaged_formats(layout, connection))
        repair(layout, database)
    finally:
        database.close()
    return examine(layout)


def _forget_damaged_formats(layout: Layout, connection: Connection) -> None:
    """Forms that are not as they were made; repair() removes their files, and they are made again when asked for."""
    for record in all_formats(connection):
        if wrong_files(layout.format(record.adapter, record.number, record.form), record.files):
            delete_format(connection, record.adapter, record.number, record.form)


def _weights_from_flat_names(layout: Layout, connection: Connection) -> None:
    """Weights that are missing or wrong in their directory, and right under the flat name."""
    for version in store.page_of_versions(connection, scope=EVERYTHING, limit=-1)[0]:
        directory = layout.version(version.adapter, version.number)
        if ADAPTER_FILE in wrong_files(directory, version.files) and saved_by_flat_name(layout, version):
            directory.mkdir(mode=0o700, exist_ok=True)
            fresh = layout.staging / f"weights-{uuid.uuid4().hex}"
            fresh.hardlink_to(layout.flat(version.adapter, version.number))
            fresh.replace(directory / ADAPTER_FILE)
            sync_directory(directory)
