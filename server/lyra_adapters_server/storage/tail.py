"""Rows that are only added, as streams: every reader reads storage, and is woken when something was written."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Hashable, Sequence
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection

if TYPE_CHECKING:
    from lyra_adapters_server.storage.database import Database

Row = TypeVar("Row")

# Another server on the same registry writes without waking us.
POLL_S = 1.0
BATCH = 256


class Wakers:
    """Who waits for new rows, by what the rows are about."""

    def __init__(self) -> None:
        self._waiting: defaultdict[Hashable, set[asyncio.Event]] = defaultdict(set)

    def wake(self, topic: Hashable) -> None:
        """Tells the readers of a topic that there are new rows. Called on the event loop's thread."""
        for event in self._waiting.get(topic, ()):
            event.set()

    def add(self, topic: Hashable) -> asyncio.Event:
        """An event that is set whenever there are new rows, until it is removed."""
        woken = asyncio.Event()
        self._waiting[topic].add(woken)
        return woken

    def remove(self, topic: Hashable, woken: asyncio.Event) -> None:
        """Forgets a reader."""
        self._waiting[topic].discard(woken)
        if not self._waiting[topic]:
            del self._waiting[topic]


async def follow(
    database: Database,
    topic: Hashable,
    read: Callable[[Connection, int, int], Sequence[Row]],
    position: Callable[[Row], int],
    after: int,
    heartbeat_s: float,
) -> AsyncGenerator[Row | None, None]:
    """Yields rows in order as they come, and None after every `heartbeat_s` of silence; never ends by itself.

    Args:
        database: Where the rows are.
        topic: What `database.wakers` is told when rows were written.
        read: The rows after a position (second argument), at most so many (third), in order.
        position: A row's position; it grows from row to row.
        after: Only rows after this position.
        heartbeat_s: Longest silence in seconds.
    """
    loop = asyncio.get_running_loop()
    woken = database.wakers.add(topic)
    try:
        quiet_since = loop.time()
        while True:
            woken.clear()
            rows = await database.read(_reading(read, after))
            for row in rows:
                yield row
                after = position(row)
            if rows:
                quiet_since = loop.time()
                continue
            silence_ends = quiet_since + heartbeat_s
            try:
                async with asyncio.timeout(max(0.0, min(POLL_S, silence_ends - loop.time()))):
                    await woken.wait()
            except TimeoutError:
                if loop.time() >= silence_ends:
                    yield None
                    quiet_since = loop.time()
    finally:
        database.wakers.remove(topic, woken)


def _reading(
    read: Callable[[Connection, int, int], Sequence[Row]], after: int
) -> Callable[[Connection], Sequence[Row]]:
    return lambda connection: read(connection, after, BATCH)
