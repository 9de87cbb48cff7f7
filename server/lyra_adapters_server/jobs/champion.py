"""The champion: what is in force under an adapter's name, as something that can be scored."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from lyra_adapters_server.registry.layout import Layout
from lyra_adapters_server.registry.names import BASE, full_name
from lyra_adapters_server.storage import versions as store
from lyra_adapters_server.types import AdapterRef


@dataclass(frozen=True)
class Champion:
    """What is in force, and the pointer's revision when it was looked up."""

    ref: AdapterRef
    pointer_revision: int


def find_champion(connection: Connection, layout: Layout, adapter: str, base_alias: str) -> Champion:
    """The version in force, or the bare base `base_alias` where none is."""
    pointer = store.find_pointer(connection, adapter)
    if pointer is None or pointer.active is None:
        return Champion(AdapterRef(name=BASE, base_alias=base_alias), pointer.pointer_revision if pointer else 0)
    return Champion(version_ref(connection, layout, adapter, pointer.active), pointer.pointer_revision)


def version_ref(connection: Connection, layout: Layout, adapter: str, number: int) -> AdapterRef:
    """A version that exists, as the trainer loads it."""
    version = store.find_version(connection, adapter, number)
    assert version is not None, "pointers and lineage name versions that exist"
    return AdapterRef(
        name=full_name(adapter, number),
        base_alias=version.base_model,
        directory=str(layout.version(adapter, number)),
    )
