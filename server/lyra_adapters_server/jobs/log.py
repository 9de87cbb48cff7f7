"""The events of jobs as streams that end with the job."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from lyra_adapters_server.storage import jobs as store
from lyra_adapters_server.storage import tail
from lyra_adapters_server.storage.database import Database
from lyra_adapters_server.storage.jobs import EventRecord


class EventLog:
    """Follows jobs' events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def wake(self, job_id: str) -> None:
        """Tells the readers of a job that it has new events."""
        self._database.wakers.wake(("job", job_id))

    async def follow(self, job_id: str, after: int, heartbeat_s: float) -> AsyncGenerator[EventRecord | None, None]:
        """Yields the events after a sequence as they come, and None after every `heartbeat_s` of silence.

        Ends after the event that closes the job. The job must exist. Raises Refusal when the server
        stops.
        """
        following = tail.follow(
            self._database,
            ("job", job_id),
            lambda connection, sequence, limit: store.events_after(connection, job_id, sequence, limit),
            lambda event: event.sequence,
            after,
            heartbeat_s,
        )
        async with contextlib.aclosing(following) as events:
            async for event in events:
                yield event
                if event is not None and event.kind in store.CLOSING_KINDS:
                    return
