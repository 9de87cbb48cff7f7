"""Makes the link and the pointer file follow the row, in the order of the rows' changes."""

from __future__ import annotations

from sqlalchemy import Connection

from lyra_adapters_server.registry.layout import Layout, write_pointer
from lyra_adapters_server.storage.database import Database
from lyra_adapters_server.storage.versions import find_pointer


async def follow_row(database: Database, layout: Layout, adapter: str) -> None:
    """Writes link and pointer file of an adapter as its row says now.

    Runs under the database's write lock, so that of two changes the later one's link stays, whoever writes last.
    """

    def work(connection: Connection) -> None:
        pointer = find_pointer(connection, adapter)
        assert pointer is not None
        write_pointer(layout, pointer)

    await database.write(work)
