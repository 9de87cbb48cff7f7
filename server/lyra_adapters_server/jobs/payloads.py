"""The trainer's events as they are stored: kind and payload in the proto's JSON form."""

from __future__ import annotations

from typing import Any

from lyra_adapters_server.registry.describe import metrics_payload
from lyra_adapters_server.trainer.events import (
    Checkpointed,
    Evaluated,
    TrainerEvent,
    TrainerWarning,
    TrainingProgress,
)


def event_payload(event: TrainerEvent) -> tuple[str, dict[str, Any]]:
    """Kind and payload of an event that a training yields. Raises TypeError for one that it can't."""
    match event:
        case TrainerWarning():
            return event.kind, event.model_dump(mode="json", exclude={"kind", "plan"})
        case Checkpointed():
            return event.kind, {"step": event.step}
        case TrainingProgress():
            payload = event.model_dump(mode="json", exclude={"kind", "eta_s"})
            return event.kind, {**payload, "eta": f"{max(0.0, event.eta_s):.3f}s"}
        case Evaluated():
            return event.kind, {
                "stage": f"EVALUATION_STAGE_{event.stage}",
                "subject": event.subject,
                "metrics": metrics_payload(event.metrics),
                "step": event.step,
                "best": event.best,
            }
        case _:
            raise TypeError(f"{type(event).__name__} is no event of a training")
