"""Scores on held-out rows, and the gate's verdict over them."""

from __future__ import annotations

from dataclasses import dataclass

from lyra_adapters.models.base import Model, Word


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusionRow(Model):
    """Counts of the predictions for one correct label."""

    supports: int = 0
    refutes: int = 0
    neutral: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion(Model):
    """Counts by correct label (the attribute) and predicted label (the attribute's attribute)."""

    supports: ConfusionRow = ConfusionRow()
    refutes: ConfusionRow = ConfusionRow()
    neutral: ConfusionRow = ConfusionRow()


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics(Model):
    """Scores on a set of rows.

    Attributes:
        samples: Rows scored.
        accuracy: Share of rows whose most probable label is right, 0 to 1.
        macro_f1: Mean of the three labels' F1, 0 to 1.
        brier: Squared error of the probabilities, summed over three classes, mean over rows; 0 to 2.
        loss: Mean negative log-likelihood of the correct label, in nats.
        confusion: Counts by correct and predicted label.
    """

    samples: int = 0
    accuracy: float = 0.0
    macro_f1: float = 0.0
    brier: float = 0.0
    loss: float = 0.0
    confusion: Confusion | None = None


class VerdictOutcome(Word):
    """How a newly trained version compares with the one in force."""

    UNSPECIFIED = "UNSPECIFIED"
    BETTER = "BETTER"
    NOT_WORSE = "NOT_WORSE"
    UNDECIDED = "UNDECIDED"
    WORSE = "WORSE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict(Model):
    """The gate's verdict, and what followed from it.

    Attributes:
        outcome: How the challenger compares with the champion.
        champion: A version's full name, or `base`.
        champion_metrics: Scores of the champion on the held-out rows.
        challenger_metrics: Scores of the challenger on the same rows.
        explanation: The rule's reasoning, with the numbers.
        activated: Whether the version was put in force.
        held: Why it was not, although the verdict allows it; empty otherwise.
    """

    outcome: VerdictOutcome = VerdictOutcome.UNSPECIFIED
    champion: str = ""
    champion_metrics: Metrics | None = None
    challenger_metrics: Metrics | None = None
    explanation: str = ""
    activated: bool = False
    held: str = ""
