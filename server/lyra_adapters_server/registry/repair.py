"""At start-up: makes links and pointer files follow the rows, and clears what half-done work left."""

from __future__ import annotations

import structlog

from lyra_adapters_server.registry.layout import ADAPTER_FILE, Layout, link_flat, remove_tree, write_pointer
from lyra_adapters_server.registry.names import full_name
from lyra_adapters_server.storage import versions as store
from lyra_adapters_server.storage.database import Database

log = structlog.get_logger()


def repair(layout: Layout, database: Database) -> None:
    """Mends what a crash between row and files can leave. Harmless to repeat."""
    for leftover in layout.staging.iterdir():
        log.info("removed_leftover", path=leftover.name)
        remove_tree(leftover)
    versions, _ = database.read_now(lambda connection: store.page_of_versions(connection, limit=-1))
    for version in versions:
        if (layout.version(version.adapter, version.number) / ADAPTER_FILE).exists():
            link_flat(layout, version.adapter, version.number)
        else:
            log.error("version_without_files", version=full_name(version.adapter, version.number))
    for pointer in database.read_now(store.all_pointers):
        if pointer.pointer_revision:
            write_pointer(layout, pointer)
