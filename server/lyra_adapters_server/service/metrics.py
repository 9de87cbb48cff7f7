"""What the server counts and times, for Prometheus. Names and help texts: docs/operations.md, docs/monitoring.

Labels come from short lists that callers cannot lengthen (methods, codes, reasons, states): no adapter's name, no
caller, no text.
"""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from lyra_adapters_server.storage.database import now_us
from lyra_adapters_server.trainer.events import Checkpointed, TrainerEvent, TrainingProgress

PREFIX = "lyra_adapters_"
# Seconds: a call on loopback to one that waits for the model.
CALL_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# A step takes milliseconds on a GPU and seconds on a CPU.
STEP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LAG_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """One server's metrics, in a registry of their own."""

    def __init__(self) -> None:
        # Creation times of counters would double their number, and nobody asks for them.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library does not type it
        self.registry = registry = CollectorRegistry()
        self.calls = Counter(
            f"{PREFIX}rpcs", "Calls that have ended, by method and gRPC code.", ["method", "code"], registry=registry
        )
        self.call_seconds = Histogram(
            f"{PREFIX}rpc_seconds",
            "Seconds until a call's answer; of a stream: until its first message.",
            ["method"],
            buckets=CALL_BUCKETS,
            registry=registry,
        )
        self.refused = Counter(
            f"{PREFIX}refused_rpcs",
            "Calls that were refused, by method and reason (ErrorInfo).",
            ["method", "reason"],
            registry=registry,
        )
        self.streams = Gauge(f"{PREFIX}streams", "Streams that are open, by method.", ["method"], registry=registry)
        self.event_lag = Histogram(
            f"{PREFIX}event_lag_seconds",
            "Seconds from the commit of a job's event to its sending, for each reader that follows live.",
            buckets=LAG_BUCKETS,
            registry=registry,
        )
        self.step_seconds = Histogram(
            f"{PREFIX}training_step_seconds",
            "Seconds of an optimizer step, evaluations between steps included: means between two progress events.",
            buckets=STEP_BUCKETS,
            registry=registry,
        )
        self.tokens_per_second = Gauge(
            f"{PREFIX}training_tokens_per_second",
            "Training speed in tokens, without padding, as of the last progress event; 0 while nothing trains.",
            registry=registry,
        )
        self.checkpoint_seconds = Histogram(
            f"{PREFIX}checkpoint_seconds",
            "Seconds to make a checkpoint durable.",
            buckets=CALL_BUCKETS,
            registry=registry,
        )

    def call_ended(self, method: str, code: str, reason: str | None) -> None:
        """Counts a call."""
        self.calls.labels(method, code).inc()
        if reason:
            self.refused.labels(method, reason).inc()

    def event_sent(self, written_us: int) -> None:
        """Notes how long after its commit an event was sent."""
        self.event_lag.observe(max(0.0, (now_us() - written_us) / 1e6))

    def training_event(self, event: TrainerEvent, before: tuple[int, float] | None) -> tuple[int, float] | None:
        """Measures an event of a training.

        Args:
            event: The event.
            before: What was returned for the event before; None for the first.

        Returns:
            The step and the time (seconds, monotonic) of the last progress.
        """
        if isinstance(event, Checkpointed):
            self.checkpoint_seconds.observe(event.seconds)
        if isinstance(event, TrainingProgress):
            now = time.monotonic()
            if before and event.step > before[0]:
                self.step_seconds.observe((now - before[1]) / (event.step - before[0]))
            self.tokens_per_second.set(event.tokens_per_second)
            return event.step, now
        return before
