"""How far a training is: its progress events."""

from __future__ import annotations

import math
import time

from lyra_adapters_server.trainer.events import TrainingProgress
from lyra_adapters_server.trainer.spec import TrainSpec


class ProgressMeter:
    """Turns steps into events, not more often than asked."""

    def __init__(self, spec: TrainSpec, rows: int, total_steps: int) -> None:
        self._interval, self._rows, self._total = spec.progress_interval_s, rows, total_steps
        self._seen_per_step = spec.training.batch_size
        self._epochs = spec.training.epochs
        self._started: float | None = None
        self._first_step = 0
        self._last = -math.inf
        self._losses: list[float] = []
        self._tokens = 0
        self._busy = 0.0

    def worked(self, tokens: int, seconds: float) -> None:
        """Counts a micro-batch, by the time it took itself: others may have run in between."""
        if self._started is None:
            self._started = time.monotonic() - seconds
        self._tokens += tokens
        self._busy += seconds

    def stepped(self, step: int, loss: float, learning_rate: float) -> TrainingProgress | None:
        """Counts a step; gives an event when one is due."""
        self._losses.append(loss)
        now = time.monotonic()
        if step < self._total and now - self._last < self._interval:
            return None
        if self._first_step == 0:
            self._first_step = step
        elapsed = now - (self._started if self._started is not None else now)
        event = TrainingProgress(
            step=step,
            total_steps=self._total,
            epoch=min(step * self._seen_per_step / self._rows, self._epochs),
            loss=sum(self._losses) / len(self._losses),
            learning_rate=learning_rate,
            tokens_per_second=self._tokens / self._busy if self._busy else 0.0,
            fraction_done=step / self._total,
            eta_s=elapsed / (step - self._first_step + 1) * (self._total - step),
        )
        self._last, self._losses, self._tokens, self._busy = now, [], 0, 0.0
        return event
