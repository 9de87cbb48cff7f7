"""What to do next on a stream that may break: which events are new, when to go on, when to give up. No I/O.

The plan is fed with messages and failures and answers with what to do; the two clients only carry it out. Time and
chance come from outside, so that tests need neither.
"""

from __future__ import annotations

import logging
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import grpc

from lyra_adapters import convert
from lyra_adapters.errors import AdapterError, DataLoss, DeadlineExceeded, TrainingCancelled, TrainingFailed
from lyra_adapters.models import events
from lyra_adapters.models.scores import Verdict, VerdictOutcome
from lyra_adapters.models.versions import AdapterVersion, PointerChange, VersionState
from lyra_adapters.v1 import adapter_service_pb2 as pb

T = TypeVar("T")
log = logging.getLogger("lyra_adapters")

# Codes that a broken connection, a proxy or a stopping server give as well as a fault: worth a few tries, not minutes.
UNCLEAR = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED})
# Codes that say by themselves that another try may do.
PASSING = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectPolicy:
    """How a broken stream is taken up again.

    Attributes:
        initial: Seconds before the first new try. Default 0.2.
        factor: By how much each further wait is longer. Default 2.
        maximum: Longest wait in seconds. Default 15.
        jitter: Share of each wait that is left to chance, 0 to 1, so that many clients don't come back at once.
            Default 0.5.
        connect_within: Seconds to keep trying a server that has not been reached at all, or is full
            (RESOURCE_EXHAUSTED) and has not taken the call. Default 30.
        give_up_after: Seconds without contact after which the error is raised. Default 600; 0 never reconnects.
        unclear_tries: Tries in a row after errors that may be faults (INTERNAL, UNKNOWN, CANCELLED). Default 3.
    """

    initial: float = 0.2
    factor: float = 2.0
    maximum: float = 15.0
    jitter: float = 0.5
    connect_within: float = 30.0
    give_up_after: float = 600.0
    unclear_tries: int = 3


@dataclass(frozen=True, slots=True)
class Reconnect:
    """A stream broke and is taken up again: after which error, in how many seconds, and which try in a row it is."""

    error: AdapterError
    wait: float
    attempt: int


class StreamPlan(ABC, Generic[T]):
    """The state of one logical stream over any number of calls.

    Args:
        policy: How to take it up again.
        timeout: Seconds for the whole stream; None: no limit.
        on_reconnect: Called before each wait.
        clock: Seconds, monotonic.
        chance: A number from 0 to below 1.
    """

    def __init__(
        self,
        policy: ReconnectPolicy,
        *,
        timeout: float | None = None,
        on_reconnect: Callable[[Reconnect], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.policy = policy
        self.on_reconnect = on_reconnect
        self.finished = False
        self._clock = clock
        self._chance = chance
        self._ends = None if timeout is None else clock() + timeout
        self._contact = clock()
        self._reached = False
        self._failures = 0
        self._unclear = 0

    @abstractmethod
    def next_call(self) -> tuple[str, Any]:
        """The RPC to call now, and its request."""

    @abstractmethod
    def _accept(self, message: Any) -> T | None:
        """The item of a message; None if it is not for the caller. Sets `finished` at the end."""

    def remaining(self) -> float | None:
        """Seconds left for the whole stream; None: no limit."""
        return None if self._ends is None else max(0.0, self._ends - self._clock())

    def feed(self, message: Any) -> T | None:
        """Takes a message in; returns the caller's item, if there is one.

        Raises:
            DataLoss: The message does not follow on the ones before; the stream should be taken up again.
        """
        item = self._accept(message)
        self._contact = self._clock()
        self._reached = True
        self._failures = 0
        if item is not None:
            self._unclear = 0
        return item

    def broke(self, error: AdapterError | None) -> float:
        """Decides about a call that ended.

        Args:
            error: Why; None if it ended OK before the stream was finished.

        Returns:
            Seconds to wait before `next_call`.

        Raises:
            AdapterError: The same error, if trying again is pointless or was tried for long enough.
        """
        error = error or AdapterError("The stream ended too early.", code=grpc.StatusCode.UNKNOWN)
        now = self._clock()
        if self._ends is not None and now >= self._ends:
            raise error if isinstance(error, DeadlineExceeded) else DeadlineExceeded("The stream's time is up.")
        if not self._worth_trying(error):
            raise error
        # A server that explains itself has been reached, even if it had no event to send.
        known = self._reached or bool(error.reason)
        # A server that is full and has not taken the call is the caller's to wait for: it may take long.
        known = known and (self._reached or error.code is not grpc.StatusCode.RESOURCE_EXHAUSTED)
        patience = min(self.policy.give_up_after, self.policy.give_up_after if known else self.policy.connect_within)
        if now - self._contact >= patience:
            raise error
        wait = min(self.policy.maximum, self.policy.initial * self.policy.factor**self._failures)
        wait *= 1 - self.policy.jitter * self._chance()
        wait = max(wait, error.retry_after or 0.0)
        # The last try comes at the end of patience, not after it.
        wait = min(wait, max(0.0, self._contact + patience - now))
        self._failures += 1
        log.info("Stream broke (%s: %s); trying again in %.1f s", error.code, error.message, wait)
        if self.on_reconnect is not None:
            self.on_reconnect(Reconnect(error, wait, self._failures))
        return wait

    def _worth_trying(self, error: AdapterError) -> bool:
        if isinstance(error, DataLoss) or (error.code in UNCLEAR and not error.reason):
            self._unclear += 1
            return self._unclear <= self.policy.unclear_tries
        if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            # Refused for now if the server says when to come back, or took the job before; else for good.
            return error.retry_after is not None or self._reached
        return error.code in PASSING


class JobPlan(StreamPlan[events.TrainEvent]):
    """The events of one job, each once and in order: Train first, then Watch from the last event seen.

    Args:
        start: The TrainRequest, or a WatchRequest.
        policy: How to take the stream up again.
        heartbeats: Also hand out heartbeats.
        **options: As StreamPlan.
    """

    def __init__(
        self, start: pb.TrainRequest | pb.WatchRequest, policy: ReconnectPolicy, *, heartbeats: bool, **options: Any
    ) -> None:
        super().__init__(policy, **options)
        self._train = start if isinstance(start, pb.TrainRequest) else None
        self._heartbeats = heartbeats
        self.job_id = "" if isinstance(start, pb.TrainRequest) else start.job_id
        self.last_sequence = 0 if isinstance(start, pb.TrainRequest) else start.after_sequence
        self.outcome = Outcome()

    def next_call(self) -> tuple[str, Any]:
        """Train until the job's id is known, so that a lost answer creates no second job; then Watch."""
        if self._train is not None and not self.job_id:
            return "Train", self._train
        return "Watch", pb.WatchRequest(job_id=self.job_id, after_sequence=self.last_sequence)

    def _accept(self, message: pb.TrainEvent) -> events.TrainEvent | None:
        self.job_id = self.job_id or message.job_id
        if message.WhichOneof("event") == "heartbeat":
            self._unclear = 0
            return convert.decode_event(message) if self._heartbeats else None
        if message.sequence <= self.last_sequence:
            return None
        if message.sequence > self.last_sequence + 1:
            raise DataLoss(
                f"Event {message.sequence} of job {self.job_id} came after event {self.last_sequence}.",
                reason="GAP_IN_EVENTS",
            )
        event = convert.decode_event(message)
        self.last_sequence = event.sequence
        self.outcome.note(event)
        self.finished = event.closes
        return event


class PointerPlan(StreamPlan[PointerChange]):
    """The changes of one adapter's pointer, each once and in order; it never finishes by itself.

    Args:
        start: The WatchAdapterRequest.
        policy: How to take the stream up again.
        heartbeats: Also hand out heartbeats.
        **options: As StreamPlan.
    """

    def __init__(
        self, start: pb.WatchAdapterRequest, policy: ReconnectPolicy, *, heartbeats: bool, **options: Any
    ) -> None:
        super().__init__(policy, **options)
        self._start = start
        self._heartbeats = heartbeats
        self.last_revision = start.after_revision

    def next_call(self) -> tuple[str, Any]:
        """WatchAdapter from the last change seen."""
        request = pb.WatchAdapterRequest()
        request.CopyFrom(self._start)
        request.after_revision = self.last_revision
        return "WatchAdapter", request

    def _accept(self, message: pb.PointerChange) -> PointerChange | None:
        if message.heartbeat:
            self._unclear = 0
            return convert.decode(PointerChange, message) if self._heartbeats else None
        if message.pointer_revision <= self.last_revision:
            return None
        if message.pointer_revision > self.last_revision + 1:
            raise DataLoss(
                f"Change {message.pointer_revision} of {message.adapter} came after change {self.last_revision}.",
                reason="GAP_IN_CHANGES",
            )
        self.last_revision = message.pointer_revision
        return convert.decode(PointerChange, message)


class Outcome:
    """What the events of a job come to: its version, or why there is none."""

    def __init__(self) -> None:
        self._version: AdapterVersion | None = None
        self._verdict: Verdict | None = None
        self._end: events.TrainEvent | None = None

    def note(self, event: events.TrainEvent) -> None:
        """Takes an event in."""
        if isinstance(event.event, events.Published):
            self._version = event.event.version
        elif isinstance(event.event, Verdict):
            self._verdict = event.event
        elif event.closes:
            self._end = event

    def result(self) -> AdapterVersion:
        """The version as it stood when the job ended.

        Raises:
            TrainingFailed: The job failed.
            TrainingCancelled: The job was cancelled.
            AdapterError: The stream was left before the job ended.
        """
        if self._end is None:
            raise AdapterError("The job has not ended yet.", reason="NOT_ENDED")
        end, job_id = self._end.event, self._end.job_id
        if isinstance(end, events.Failed):
            failed = TrainingFailed(end.message, reason=end.reason)
            failed.job_id = job_id
            raise failed
        if isinstance(end, events.Cancelled):
            by = f" by {end.actor}" if end.actor else ""
            cancelled = TrainingCancelled(f"The job was cancelled{by}. {end.reason}".strip(), reason="JOB_CANCELLED")
            cancelled.job_id = job_id
            raise cancelled
        assert isinstance(end, events.Succeeded)
        return self._final(end)

    def _final(self, end: events.Succeeded) -> AdapterVersion:
        state = VersionState.CANDIDATE
        if end.activated:
            state = VersionState.ACTIVE
        elif self._verdict is not None and self._verdict.outcome is VerdictOutcome.WORSE:
            state = VersionState.REJECTED
        # A stream that began after `published` knows the name only.
        version = self._version or AdapterVersion(name=end.version)
        return replace(version, state=state, verdict=self._verdict or version.verdict)
