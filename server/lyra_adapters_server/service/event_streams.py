"""A job's stored events as messages of a stream. Each is converted once, for all of the streams that send it."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import AsyncGenerator

from lyra_adapters.v1 import adapter_service_pb2 as pb

from lyra_adapters_server.jobs.log import EventLog
from lyra_adapters_server.service.convert import event_message, heartbeat
from lyra_adapters_server.service.metrics import Metrics
from lyra_adapters_server.storage.database import now_us
from lyra_adapters_server.storage.jobs import EventRecord

# Messages kept: at some 1 KiB each a few MiB.
KEPT = 4096


class EventStreams:
    """Makes streams of messages out of the event log."""

    def __init__(self, log: EventLog, heartbeat_s: float, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics
        self._heartbeat_s = heartbeat_s
        self._messages: OrderedDict[tuple[str, int], pb.TrainEvent] = OrderedDict()

    async def follow(self, job_id: str, after: int) -> AsyncGenerator[pb.TrainEvent, None]:
        """The job's events after a sequence as they come, and heartbeats; the messages are shared and not changed."""
        begun = now_us()
        async with contextlib.aclosing(self._log.follow(job_id, after, self._heartbeat_s)) as events:
            async for event in events:
                if event is None:
                    yield heartbeat(job_id, now_us())
                    continue
                yield self._message(event)
                # Here it has been sent. What happened before the stream began was not late.
                if event.time >= begun:
                    self._metrics.event_sent(event.time)

    def _message(self, event: EventRecord) -> pb.TrainEvent:
        key = (event.job_id, event.sequence)
        message = self._messages.get(key)
        if message is None:
            message = self._messages[key] = event_message(event)
            if len(self._messages) > KEPT:
                self._messages.popitem(last=False)
        return message
