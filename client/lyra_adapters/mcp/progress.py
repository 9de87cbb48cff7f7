"""Progress of one call, as MCP wants it: each number above the one before."""

from __future__ import annotations

from lyra_adapters import models
from lyra_adapters.mcp.app import Ctx

TOTAL = 100.0
# Where a job gets no further, a sign of life still has to grow. Smaller than any step that people would notice.
BREATH = 0.01
# Training steps end here; what is above is for scoring and publishing.
TRAINED = 95.0


class Climb:
    """Reports in percent. A job that starts over, or only gives signs of life, still goes up, and never beyond."""

    def __init__(self, ctx: Ctx) -> None:
        self._ctx = ctx
        self._last = -BREATH

    async def to(self, percent: float, message: str) -> None:
        """Reports at least a little more than before, and 100 only for the end."""
        value = TOTAL if percent >= TOTAL else min(max(percent, self._last + BREATH), TOTAL - BREATH)
        if value > self._last:
            self._last = value
            await self._ctx.report_progress(value, TOTAL, message)

    async def job(self, job: models.Job) -> None:
        """Where the job stands when the call begins."""
        if job.state is models.JobState.QUEUED:
            await self.to(0, f"queued, place {job.queue_position}")
        else:
            await self.to(_percent(job.progress), "running")

    async def event(self, event: models.Event) -> None:
        """Something happened, or at least the job is alive."""
        match event:
            case models.Progress():
                await self.to(_percent(event), f"step {event.step} of {event.total_steps}, loss {event.loss:.3f}")
            case models.Queued():
                await self.to(0, f"queued, place {event.position}")
            case models.Started():
                rows, held = event.training_samples, event.validation_samples
                await self.to(0, f"training on {rows} rows, {held} held out")
            case models.Evaluation(metrics=models.Metrics() as scores):
                await self.to(0, f"accuracy {scores.accuracy:.0%} on {scores.samples} rows held out")
            case models.Resumed():
                await self.to(0, "goes on after an interruption")
            case models.Published(version=models.AdapterVersion() as version):
                await self.to(97, f"published {version.name}")
            case models.Verdict():
                await self.to(98, event.outcome.value.lower().replace("_", " "))
            case models.Succeeded() | models.Failed() | models.Cancelled():
                await self.to(TOTAL, type(event).__name__.lower())
            case _:
                await self.to(0, "running")


def _percent(progress: models.Progress | None) -> float:
    return TRAINED * progress.fraction_done if progress else 0.0
