"""Turns optimizer steps into progress events, not more often than asked."""

from __future__ import annotations

import math
import time

from lyra_adapters_server.trainer.events import TrainingProgress
from lyra_adapters_server.trainer.runs import Run


class ProgressMeter:
    """Counts the steps of one run; they are told as steps of the whole job."""

    def __init__(self, interval_s: float, run: Run, runs: int, steps_before: int, total_steps: int) -> None:
        """Starts with the run.

        Args:
            interval_s: Least seconds between two events.
            run: The run.
            runs: Runs of the job.
            steps_before: Steps planned for the runs before.
            total_steps: Steps planned for all runs.
        """
        self._interval, self._run, self._runs = interval_s, run, runs
        self._before, self._total = steps_before, total_steps
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

    def stepped(self, step: int, loss: float, learning_rate: float, *, last: bool) -> TrainingProgress | None:
        """Counts a step of the run; gives an event when one is due."""
        self._losses.append(loss)
        now = time.monotonic()
        if not last and now - self._last < self._interval:
            return None
        if self._first_step == 0:
            self._first_step = step
        elapsed = now - (self._started if self._started is not None else now)
        done = self._before + step
        training = self._run.training
        event = TrainingProgress(
            step=done,
            total_steps=self._total,
            epoch=min(step * training.batch_size / len(self._run.rows), training.epochs),
            loss=sum(self._losses) / len(self._losses),
            learning_rate=learning_rate,
            tokens_per_second=self._tokens / self._busy if self._busy else 0.0,
            fraction_done=done / self._total,
            eta_s=elapsed / (step - self._first_step + 1) * (self._total - done),
            run=self._run.number,
            runs=self._runs,
            run_name=self._run.name,
        )
        self._last, self._losses, self._tokens, self._busy = now, [], 0, 0.0
        return event
