"""Is training due? Enough reviews, and enough of the reviewed predictions wrong; or a new domain."""

from __future__ import annotations

import math
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


@dataclass(frozen=True)
class Counts:
    """What there is, duplicates merged: samples, those with an original label, those where it was wrong."""

    samples: int
    reviewed: int
    wrong: int

    @property
    def error_rate(self) -> float | None:
        """Share of wrong predictions among the reviewed ones; None where none is known."""
        return self.wrong / self.reviewed if self.reviewed else None


@dataclass(frozen=True)
class Due:
    """Whether training is due, condition by condition (protos: TrainingDue)."""

    counts: Counts
    trigger: Trigger
    enough_samples: bool
    enough_errors: bool

    @property
    def due(self) -> bool:
        """Whether every condition holds."""
        return self.enough_samples and self.enough_errors

    @property
    def conditions(self) -> str:
        """Each condition: what is there, and what is missing."""
        have, need = self.counts.samples, self.trigger.min_samples
        samples = f"have {have:,} of {need:,} samples" + (f" ({need - have:,} missing)" if have < need else "")
        rate = self.counts.error_rate
        if rate is None:
            return f"{samples}; the error rate is not asked, because no sample has an original label"
        wrong = f"{rate:.1%} of {self.counts.reviewed:,} reviewed predictions were wrong"
        return f"{samples}; {wrong}, {self.trigger.min_error_rate:.1%} are needed{self._corrections_missing}"

    @property
    def _corrections_missing(self) -> str:
        need = self.trigger.min_error_rate
        if self.enough_errors or need >= 1:
            return ""
        # Of further reviews that are all corrections, which count among the reviewed predictions too.
        count = max(1, math.ceil((need * self.counts.reviewed - self.counts.wrong) / (1 - need) - 1e-9))
        return f" ({count:,} corrections missing)" if count > 1 else " (1 correction missing)"

    @property
    def explanation(self) -> str:
        """The answer in words."""
        return f"{'Due' if self.due else 'Not due'}: {self.conditions}."


def count(samples: Sequence[Sample]) -> Counts:
    """Counts of samples whose duplicates are merged."""
    reviewed = [sample for sample in samples if sample.original_label is not None]
    wrong = sum(sample.original_label != sample.correct_label for sample in reviewed)
    return Counts(len(samples), len(reviewed), wrong)


def assess(counts: Counts, trigger: Trigger) -> Due:
    """Whether training is due by the counts; a new domain and `force` are the caller's to know."""
    rate = counts.error_rate
    return Due(
        counts,
        trigger,
        enough_samples=counts.samples >= trigger.min_samples,
        enough_errors=rate is None or rate >= trigger.min_error_rate,
    )


def check_due(samples: Sequence[Sample], trigger: Trigger, *, new_domain: bool) -> None:
    """Raises Refusal unless training on these samples (duplicates merged, not yet split) is due."""
    if trigger.force or new_domain:
        return
    due = assess(count(samples), trigger)
    if not due.enough_samples:
        raise Refusal(
            Kind.FAILED_PRECONDITION,
            "NOT_ENOUGH_SAMPLES",
            f"Training is not due: {due.conditions}. Send more, lower trigger.min_samples, or set trigger.force.",
            metadata={"have": str(len(samples)), "need": str(trigger.min_samples)},
        )
    if not due.enough_errors:
        raise Refusal(
            Kind.FAILED_PRECONDITION,
            "ERROR_RATE_TOO_LOW",
            f"Training is not due: {due.conditions}. The model does well on these; lower trigger.min_error_rate or "
            "set trigger.force to train all the same.",
            metadata={"have": f"{due.counts.error_rate:.4f}", "need": f"{trigger.min_error_rate:g}"},
        )


def check_any(samples: Sequence[Sample], trigger: Trigger) -> None:
    """Raises Refusal where recorded feedback has nothing to train on, whatever the trigger says."""
    if not samples:
        raise Refusal(
            Kind.FAILED_PRECONDITION,
            "NOT_ENOUGH_SAMPLES",
            f"Training is not possible: have 0 of {trigger.min_samples:,} samples, because no recorded feedback "
            "matches. Record some, or widen task_ids, domains, the times or only_new.",
            metadata={"have": "0", "need": str(trigger.min_samples)},
        )
