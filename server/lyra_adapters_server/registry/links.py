"""What follows a change of the pointer's row: link and pointer file, and the streams of those who follow it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from sqlalchemy import Connection

from lyra_adapters_server.registry.layout import Layout, link_flat, write_pointer
from lyra_adapters_server.storage import tail
from lyra_adapters_server.storage.database import Database
from lyra_adapters_server.storage.versions import ActivationRecord, find_pointer, history


async def follow_row(database: Database, layout: Layout, adapter: str, *, published: int | None = None) -> None:
    """Writes link and pointer file of an adapter as its row says now, and the flat name of a new version.

    Runs under the database's write lock, so that of two changes the later one's link stays, whoever writes last.
    Readers of `follow_changes` are woken.
    """

    def work(connection: Connection) -> None:
        pointer = find_pointer(connection, adapter)
        assert pointer is not None
        if published is not None:
            link_flat(layout, adapter, published)
        write_pointer(layout, pointer)

    await database.write(work, last_resort=True)
    database.wakers.wake(("pointer", adapter))


def follow_changes(
    database: Database, adapter: str, after: int, heartbeat_s: float
) -> AsyncGenerator[ActivationRecord | None, None]:
    """Yields the changes of a pointer after a revision as they come, and None after every `heartbeat_s` of silence.

    Never ends by itself. The adapter need not exist yet.
    """
    return tail.follow(
        database,
        ("pointer", adapter),
        lambda connection, revision, limit: history(connection, adapter, after=revision, limit=limit),
        lambda change: change.revision,
        after,
        heartbeat_s,
    )
