"""The fake server's jobs: scripted events that readers see up to a mark."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from lyra_adapters.models import (
    Cancelled,
    Event,
    Failed,
    Job,
    JobState,
    Progress,
    Started,
    Succeeded,
    TrainEvent,
    Verdict,
)
from lyra_adapters.v1 import adapter_service_pb2 as pb


class ScriptedJob:
    """One job: what will happen, and how much of it has.

    Args:
        job_id: The job.
        script: Its events.
        break_after: For each stream of the job, in order: break it after so many events; -1 lets it end.
        hold_after: Nothing more happens after so many events until `release`.
        pause: Seconds before each event of a stream.
        heartbeats: Send a heartbeat before each event.
    """

    def __init__(
        self,
        job_id: str,
        script: Iterable[Event],
        *,
        break_after: Sequence[int] = (),
        hold_after: int | None = None,
        pause: float = 0.0,
        heartbeats: bool = False,
    ) -> None:
        self.job_id = job_id
        self.request: pb.TrainRequest | None = None
        self.events = [self._numbered(i, event) for i, event in enumerate(script, start=1)]
        self.breaks = deque(break_after)
        self.visible = len(self.events) if hold_after is None else min(hold_after, len(self.events))
        self.pause = pause
        self.heartbeats = heartbeats
        self.changed = threading.Condition()

    def _numbered(self, sequence: int, event: Event) -> TrainEvent:
        return TrainEvent(job_id=self.job_id, sequence=sequence, time=datetime.now(UTC), event=event)

    @property
    def seen(self) -> list[TrainEvent]:
        """What has happened so far."""
        return self.events[: self.visible]

    @property
    def closed(self) -> bool:
        """Whether the job has ended."""
        return any(event.closes for event in self.seen)

    def release(self, events: int | None = None) -> None:
        """Lets so many more events happen; None: all."""
        with self.changed:
            self.visible = len(self.events) if events is None else min(len(self.events), self.visible + events)
            self.changed.notify_all()

    def cancel(self, actor: str, reason: str) -> None:
        """Drops what has not happened yet and ends the job."""
        with self.changed:
            self.events = [*self.seen, self._numbered(self.visible + 1, Cancelled(actor=actor, reason=reason))]
            self.visible = len(self.events)
            self.changed.notify_all()

    def wait_for(self, sequence: int, alive: Callable[[], bool]) -> TrainEvent | None:
        """The event of a sequence, once it has happened; None when the reader has gone or the job ended before."""
        with self.changed:
            while self.visible < sequence:
                if self.closed or not alive():
                    return None
                self.changed.wait(0.05)
            return self.events[sequence - 1]

    def to_job(self) -> Job:
        """The job as Status shows it."""
        seen = self.seen
        last = {type(event.event): event.event for event in seen}
        end = last.get(Succeeded)
        state = JobState.RUNNING if Started in last else JobState.QUEUED
        for kind, ended in (
            (Succeeded, JobState.SUCCEEDED),
            (Failed, JobState.FAILED),
            (Cancelled, JobState.CANCELLED),
        ):
            state = ended if kind in last else state
        progress, verdict, failure = last.get(Progress), last.get(Verdict), last.get(Failed)
        request = self.request or pb.TrainRequest()
        return Job(
            job_id=self.job_id,
            state=state,
            adapter=request.adapter or "user_feedback",
            task_id=request.task_id,
            actor=request.actor,
            domain=request.domain,
            base_model=request.base_model or "demo",
            samples=len(request.samples),
            create_time=seen[0].time if seen else None,
            last_sequence=self.visible,
            progress=progress if isinstance(progress, Progress) else None,
            version=end.version if isinstance(end, Succeeded) else "",
            verdict=verdict if isinstance(verdict, Verdict) else None,
            failure=failure if isinstance(failure, Failed) else None,
        )
