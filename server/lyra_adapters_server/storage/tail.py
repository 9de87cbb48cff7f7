"""Rows that are only added, as streams. Storage is read once for all readers of a topic, however many there are.

Nothing is queued for a reader: each knows how far it is and takes the next rows when it is ready for them. So a slow
one holds nobody up, and costs no memory beyond a batch that others share.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import structlog
from sqlalchemy import Connection

from lyra_adapters_server.logs import without_text

if TYPE_CHECKING:
    from lyra_adapters_server.storage.database import Database

Row = TypeVar("Row")

log = structlog.get_logger()

# Another server on the same registry writes without waking us.
POLL_S = 1.0
# Rows read at a time, and how many such batches of a topic are kept for readers that come later.
BATCH = 64
KEPT = 8
# Readers are woken in groups with a pause between, so that other calls are answered while a thousand are. A pause that
# ended late shows that those before are not served yet: the next is longer by so many times that.
GROUP = 16
GROUP_PAUSE_S = 0.002
PATIENCE = 2.0
# Readers that come at once begin so too: each after the first group so long after the one before, and again later where
# the server is that late, but not for ever.
BEGIN_EVERY_S = 0.004
LATE_S = 0.005
TURNS = 5


class Wakers:
    """The topics that have readers, and who waits for new rows of each."""

    def __init__(self) -> None:
        self._topics: dict[Hashable, _Topic[Any]] = {}
        self._poller: asyncio.Task[None] | None = None
        self._check: Callable[[], None] = lambda: None
        # When the next reader may begin.
        self._next = 0.0

    def end(self, refuse: Callable[[], None]) -> None:
        """Ends every stream, also those to come, with what `refuse` raises."""
        self._check = refuse
        for topic in list(self._topics):
            self.wake(topic)

    def check(self) -> None:
        """Raises what ends every stream, if they have been ended."""
        self._check()

    async def turn(self) -> None:
        """Waits until a new reader may begin, which is now unless many come at once."""
        loop = asyncio.get_running_loop()
        for _ in range(TURNS):
            now = loop.time()
            self._next = due = max(self._next, now - GROUP * BEGIN_EVERY_S) + BEGIN_EVERY_S
            if due <= now:
                return
            await asyncio.sleep(due - now)
            if loop.time() - due < LATE_S:
                return

    def wake(self, topic: Hashable) -> None:
        """Tells the readers of a topic that there are new rows. Called on the event loop's thread."""
        if found := self._topics.get(topic):
            found.wake()

    @contextlib.contextmanager
    def joined(self, topic: Hashable, make: Callable[[], _Topic[Row]]) -> Iterator[tuple[_Topic[Row], asyncio.Event]]:
        """Joins a topic's readers: what they share, and an event that is set whenever there are new rows."""
        found: _Topic[Row] = self._topics.setdefault(topic, make())
        woken = asyncio.Event()
        found.readers[woken] = None
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll(), name="tail-poller")
        try:
            yield found, woken
        finally:
            del found.readers[woken]
            if not found.readers:
                del self._topics[topic]
            if not self._topics and self._poller:
                self._poller.cancel()
                self._poller = None

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            for topic in list(self._topics.values()):
                try:
                    await topic.poll()
                except Exception as error:  # a disk that fails for a moment must not end this
                    log.warning("tail_poll_failed", **without_text(error))


class _Topic(Generic[Row]):
    """What the readers of a topic share."""

    def __init__(
        self,
        database: Database,
        read: Callable[[Connection, int, int], Sequence[Row]],
        position: Callable[[Row], int],
    ) -> None:
        self._database = database
        self._read = read
        self._position = position
        # In the order of their coming.
        self.readers: dict[asyncio.Event, None] = {}
        # Reads under way and what they found, by the position they start after; valid until there are new rows.
        self._reading: dict[int, asyncio.Future[Sequence[Row]]] = {}
        # Batches that are full never change.
        self._full: OrderedDict[int, Sequence[Row]] = OrderedDict()
        # The last position known.
        self._seen = 0

    def wake(self) -> None:
        """There are new rows: what was read before is out of date, and readers may look again."""
        self._reading = {}
        _wake_groups(list(self.readers))

    async def rows_after(self, after: int) -> Sequence[Row]:
        """The next rows after a position; one read serves all who ask for the same."""
        if (full := self._full.get(after)) is not None:
            self._full.move_to_end(after)
            return full
        reading = self._reading.get(after)
        if reading is None:
            reading = self._reading[after] = asyncio.ensure_future(self._read_after(after))
        # Shielded: a reader that leaves must not end what others wait for.
        return await asyncio.shield(reading)

    async def poll(self) -> None:
        """Looks for rows that others wrote without a word."""
        if await self._database.read(lambda connection: self._read(connection, self._seen, 1)):
            self.wake()

    async def _read_after(self, after: int) -> Sequence[Row]:
        rows = await self._database.read(lambda connection: self._read(connection, after, BATCH))
        self._seen = max([self._seen, after, *(self._position(row) for row in rows[-1:])])
        if len(rows) == BATCH:
            self._full[after] = rows
            if len(self._full) > KEPT:
                self._full.popitem(last=False)
        return rows


async def follow(
    database: Database,
    topic: Hashable,
    read: Callable[[Connection, int, int], Sequence[Row]],
    position: Callable[[Row], int],
    after: int,
    heartbeat_s: float,
) -> AsyncGenerator[Row | None, None]:
    """Yields rows in order as they come, and None after every `heartbeat_s` of silence. Only `Wakers.end` ends it.

    Args:
        database: Where the rows are.
        topic: What `database.wakers` is told when rows were written.
        read: The rows after a position (second argument), at most so many (third), in order.
        position: A row's position; it grows from row to row.
        after: Only rows after this position.
        heartbeat_s: Longest silence in seconds.
    """
    loop = asyncio.get_running_loop()
    await database.wakers.turn()
    with database.wakers.joined(topic, lambda: _Topic(database, read, position)) as (shared, woken):
        quiet_since = loop.time()
        while True:
            database.wakers.check()
            woken.clear()
            rows = await shared.rows_after(after)
            for row in rows:
                yield row
                after = position(row)
            if rows:
                quiet_since = loop.time()
                continue
            try:
                async with asyncio.timeout(max(0.0, quiet_since + heartbeat_s - loop.time())):
                    await woken.wait()
            except TimeoutError:
                yield None
                quiet_since = loop.time()


def _wake_groups(readers: list[asyncio.Event], due: float | None = None) -> None:
    loop = asyncio.get_running_loop()
    late = 0.0 if due is None else max(0.0, loop.time() - due)
    for woken in readers[:GROUP]:
        woken.set()
    if rest := readers[GROUP:]:
        next_due = loop.time() + GROUP_PAUSE_S + PATIENCE * late
        loop.call_at(next_due, _wake_groups, rest, next_due)
