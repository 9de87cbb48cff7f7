"""Is training due? Enough reviews, and enough of the reviewed predictions wrong; or a new domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lyra_adapters_server.errors import Kind, Refusal
from lyra_adapters_server.types import Sample


@dataclass(frozen=True)
class Trigger:
    """When training is due (protos: TriggerPolicy)."""

    min_samples: int = 50
    min_error_rate: float = 0.1
    force: bool = False


def error_rate(samples: Sequence[Sample]) -> float | None:
    """Share of wrong predictions among the rows that carry an original label; None where none does."""
    reviewed = [sample for sample in samples if sample.original_label is not None]
    if not reviewed:
        return None
    return sum(sample.original_label != sample.correct_label for sample in reviewed) / len(reviewed)


def check_due(samples: Sequence[Sample], trigger: Trigger, *, new_domain: bool) -> None:
    """Raises Refusal unless training on these samples (duplicates merged, not yet split) is due."""
    if trigger.force or new_domain:
        return
    if len(samples) < trigger.min_samples:
        raise Refusal(
            Kind.FAILED_PRECONDITION,
            "NOT_ENOUGH_SAMPLES",
            f"Training is not due: have {len(samples)} of {trigger.min_samples} samples. Send more, lower "
            "trigger.min_samples, or set trigger.force.",
            metadata={"have": str(len(samples)), "need": str(trigger.min_samples)},
        )
    rate = error_rate(samples)
    if rate is not None and rate < trigger.min_error_rate:
        raise Refusal(
            Kind.FAILED_PRECONDITION,
            "ERROR_RATE_TOO_LOW",
            f"Training is not due: {rate:.1%} of the reviewed predictions were wrong, {trigger.min_error_rate:.1%} "
            "are needed. The model does well on these; lower trigger.min_error_rate or set trigger.force to train "
            "all the same.",
            metadata={"have": f"{rate:.4f}", "need": f"{trigger.min_error_rate:g}"},
        )
