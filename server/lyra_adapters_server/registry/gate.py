"""The gate: does a newly trained version stand up to the one in force?"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lyra_adapters_server.types import Metrics

# How much accuracy a challenger may lose and still count as not worse: about one row in fifty.
ACCURACY_MARGIN = 0.02


class Outcome(StrEnum):
    """How the challenger compares with the champion (protos: VerdictOutcome)."""

    BETTER = "BETTER"
    NOT_WORSE = "NOT_WORSE"
    UNDECIDED = "UNDECIDED"
    WORSE = "WORSE"

    @property
    def passes(self) -> bool:
        """Whether a version with this outcome is put in force under ACTIVATION_GATED."""
        return self in (Outcome.BETTER, Outcome.NOT_WORSE)


@dataclass(frozen=True)
class Judgement:
    """The outcome, and the rule's reasoning with its numbers."""

    outcome: Outcome
    explanation: str


def judge(champion: Metrics | None, challenger: Metrics | None) -> Judgement:
    """Compares two scorings of the same held-out rows.

    NOT_WORSE if the challenger's accuracy is at least the champion's minus ACCURACY_MARGIN and its Brier score (mean
    over rows of the squared error summed over the three classes; lower is better) is not higher. BETTER if, beyond
    that, its accuracy is higher. WORSE otherwise. UNDECIDED if there were no rows to compare on.
    """
    if champion is None or challenger is None or challenger.samples == 0:
        return Judgement(Outcome.UNDECIDED, "No rows were held out, so the two could not be compared.")
    numbers = (
        f"on {challenger.samples} held-out rows: accuracy {champion.accuracy:.3f} -> {challenger.accuracy:.3f}, "
        f"Brier {champion.brier:.3f} -> {challenger.brier:.3f}"
    )
    lost_accuracy = challenger.accuracy < champion.accuracy - ACCURACY_MARGIN
    lost_brier = challenger.brier > champion.brier
    if lost_accuracy or lost_brier:
        which = " and ".join(
            name for name, lost in (("accuracy", lost_accuracy), ("the Brier score", lost_brier)) if lost
        )
        return Judgement(Outcome.WORSE, f"Worse in {which} {numbers}.")
    if challenger.accuracy > champion.accuracy:
        return Judgement(Outcome.BETTER, f"More rows right and no worse Brier score {numbers}.")
    return Judgement(Outcome.NOT_WORSE, f"Accuracy within {ACCURACY_MARGIN} and no worse Brier score {numbers}.")
