"""How many streams may be open: per principal, so that one caller can't take them all, and in all."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from lyra_adapters_server.errors import Kind, Refusal
from lyra_adapters_server.service.metrics import Metrics

RETRY_S = 5.0


@dataclass(frozen=True)
class StreamLimits:
    """The most streams that may be open at a time."""

    total: int
    per_principal: int


class StreamGate:
    """Counts open streams. Asked before a stream does anything, so that a refused Train has created nothing."""

    def __init__(self, limits: StreamLimits, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self._open: Counter[str] = Counter()

    @contextlib.contextmanager
    def opened(self, principal: str, method: str) -> Iterator[None]:
        """Holds a stream open. Raises Refusal where there is no place for another."""
        own, total = self._open[principal], self._open.total()
        if own >= self._limits.per_principal:
            raise _too_many(
                f"You have {own:,} streams open, and one caller may have at most {self._limits.per_principal:,}",
                "max_streams_per_principal",
                self._limits.per_principal,
            )
        if total >= self._limits.total:
            raise _too_many(
                f"{total:,} streams are open, and at most {self._limits.total:,} may be",
                "max_streams",
                self._limits.total,
            )
        self._open[principal] += 1
        open_streams = self._metrics.streams.labels(method)
        open_streams.inc()
        try:
            yield
        finally:
            open_streams.dec()
            self._open[principal] -= 1
            if not self._open[principal]:
                del self._open[principal]


def _too_many(what: str, setting: str, limit: int) -> Refusal:
    return Refusal(
        Kind.RESOURCE_EXHAUSTED,
        "TOO_MANY_STREAMS",
        f"{what} (setting {setting}). Nothing was done; close a stream, or try again in a moment.",
        metadata={"setting": setting, "limit": str(limit)},
        retry_after_s=RETRY_S,
    )
