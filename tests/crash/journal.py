"""What callers were told: the promises that a crash must not break."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field

from lyra_adapters.v1 import adapter_service_pb2 as pb

CLOSING = frozenset({"succeeded", "failed", "cancelled"})


@dataclass
class Journal:
    """Filled by many threads of callers; `broken` holds what no caller may ever see."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    # Request id of each acknowledged job -> its id.
    jobs: dict[str, str] = field(default_factory=dict)
    # Job -> sequence -> the event as it came.
    events: defaultdict[str, dict[int, bytes]] = field(default_factory=lambda: defaultdict(dict))
    closed: dict[str, str] = field(default_factory=dict)
    # (adapter, revision) of each acknowledged rollback and activation -> the version in force, 0 for base.
    changes: dict[tuple[str, int], int] = field(default_factory=dict)
    feedback: set[str] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)
    deleted: set[tuple[str, int]] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)

    def acknowledged(self, request_id: str, job_id: str) -> None:
        """A job's first event came."""
        with self.lock:
            before = self.jobs.setdefault(request_id, job_id)
            if before != job_id:
                self.broken.append(f"request {request_id} gave two jobs: {before}, {job_id}")

    def saw(self, event: pb.TrainEvent) -> None:
        """An event came, on some stream."""
        kind = event.WhichOneof("event")
        if kind == "heartbeat":
            return
        content = event.SerializeToString(deterministic=True)
        with self.lock:
            seen = self.events[event.job_id]
            if seen.setdefault(event.sequence, content) != content:
                self.broken.append(f"{event.job_id}: event {event.sequence} differs between streams")
            if kind in CLOSING and self.closed.setdefault(event.job_id, str(kind)) != kind:
                self.broken.append(f"{event.job_id} closed twice")

    def last(self, job_id: str) -> int:
        """The last event that came without a gap before it."""
        with self.lock:
            seen = self.events[job_id]
            last = 0
            while last + 1 in seen:
                last += 1
            if seen and max(seen) != last:
                self.broken.append(f"{job_id}: event {last + 1} is missing before {max(seen)}")
            return last

    def complain(self, what: str) -> None:
        """Something that no caller may see."""
        with self.lock:
            self.broken.append(what)
