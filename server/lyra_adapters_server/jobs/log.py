"""The events of jobs as streams: every reader reads storage, and is woken when something was written."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from functools import partial

from lyra_adapters_server.storage import jobs as store
from lyra_adapters_server.storage.database import Database
from lyra_adapters_server.storage.jobs import EventRecord

# Another server on the same registry writes without waking us.
POLL_S = 1.0
BATCH = 256


class EventLog:
    """Follows jobs' events."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def wake(self, job_id: str) -> None:
        """Tells the readers of a job that it has new events."""
        for event in self._waiting.get(job_id, ()):
            event.set()

    async def follow(self, job_id: str, after: int, heartbeat_s: float) -> AsyncGenerator[EventRecord | None, None]:
        """Yields the events after a sequence as they come, and None after every `heartbeat_s` of silence.

        Ends after the event that closes the job. The job must exist.
        """
        loop = asyncio.get_running_loop()
        woken = asyncio.Event()
        self._waiting[job_id].add(woken)
        try:
            quiet_since = loop.time()
            while True:
                woken.clear()
                events = await self._database.read(
                    partial(store.events_after, job_id=job_id, sequence=after, limit=BATCH)
                )
                for event in events:
                    yield event
                    after = event.sequence
                    if event.kind in store.CLOSING_KINDS:
                        return
                if events:
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
            self._waiting[job_id].discard(woken)
            if not self._waiting[job_id]:
                del self._waiting[job_id]
