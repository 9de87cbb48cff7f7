"""The local worker, with its trainings measured from their events."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from lyra_adapters_server.executors.local import LocalWorker
from lyra_adapters_server.service.metrics import Metrics
from lyra_adapters_server.trainer.events import TrainerEvent
from lyra_adapters_server.trainer.spec import TrainSpec


class MeasuredWorker(LocalWorker):
    """A worker that tells the metrics what its trainings tell it."""

    def __init__(self, metrics: Metrics, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._metrics = metrics

    async def train(self, spec: TrainSpec) -> AsyncGenerator[TrainerEvent, None]:
        """As LocalWorker's."""
        before: tuple[int, float] | None = None
        try:
            async with contextlib.aclosing(super().train(spec)) as events:
                async for event in events:
                    before = self._metrics.training_event(event, before)
                    yield event
        finally:
            self._metrics.tokens_per_second.set(0)
