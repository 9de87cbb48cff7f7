"""Notices a worker that has work and gives no sign of life."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

# How often it is looked, at most.
_LOOK_S = 1.0


@dataclass(frozen=True)
class HangLimits:
    """Longest silence of a worker that has work, in seconds."""

    # While it computes: longer than its longest micro-batch.
    working: float
    # While it starts, or reads a base model's weights.
    loading: float


class HangWatch:
    """Counts the silence of one worker process.

    A worker tells of every turn of work it has done, about once a second, so silence means that a single turn takes
    that long. One that has nothing to do is silent and well.
    """

    def __init__(self, limits: HangLimits) -> None:
        self._limits = limits
        self._last = _now()

    def sign(self) -> None:
        """Notes a sign of life, or that there is something to do from now on."""
        self._last = _now()

    async def overdue(self, busy: Callable[[], bool], loading: Callable[[], bool]) -> float:
        """Waits until a worker has been silent for too long; returns for how many seconds.

        Args:
            busy: Whether it has anything to do.
            loading: Whether it starts or reads weights, which takes its time.
        """
        while True:
            limit = self._limits.loading if loading() else self._limits.working
            pause = min(_LOOK_S, limit / 4)
            before = _now()
            await asyncio.sleep(pause)
            # This process itself stood still: what the worker said meanwhile has not been read yet.
            if not busy() or _now() - before > pause + limit / 2:
                self.sign()
            elif _now() - self._last > limit:
                return _now() - self._last


def _now() -> float:
    return asyncio.get_running_loop().time()
