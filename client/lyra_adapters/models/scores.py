"""Scores on held-out rows, and the gate's verdict over them."""

from __future__ import annotations

from dataclasses import dataclass

from lyra_adapters.models.base import Model, Word

# As the server's trainer/metrics.py.
_LEAST_CALIBRATED = 20


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
        calibration_error: How far the probability of the predicted label lies from the share that is right, 0 to 1;
            see `calibration_known`.
        temperature: What the logits were divided by; 1: nothing.
    """

    samples: int = 0
    accuracy: float = 0.0
    macro_f1: float = 0.0
    brier: float = 0.0
    loss: float = 0.0
    confusion: Confusion | None = None
    calibration_error: float = 0.0
    temperature: float = 0.0

    @property
    def calibration_known(self) -> bool:
        """Whether the rows suffice for a calibration error: of fewer than 20 it is 0, whatever they say."""
        return self.samples >= _LEAST_CALIBRATED


class VerdictOutcome(Word):
    """How a newly trained version compares with the one in force."""

    UNSPECIFIED = "UNSPECIFIED"
    BETTER = "BETTER"
    NOT_WORSE = "NOT_WORSE"
    UNDECIDED = "UNDECIDED"
    WORSE = "WORSE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval(Model):
    """A value with its 95 % interval."""

    value: float = 0.0
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(Model):
    """Champion and challenger on the same rows.

    Attributes:
        rows: Rows compared.
        excluded_rows: Rows left out because one of the two has trained on them.
        champion_accuracy: Share of rows that the champion has right.
        challenger_accuracy: Share of rows that the challenger has right.
        accuracy_difference: Above 0 the challenger is better.
        brier_difference: Below 0 the challenger is better.
        gained: Rows that only the challenger has right.
        lost: Rows that only the champion has right.
        p_value: Exact two-sided McNemar test of gained against lost.
        weighted: Whether accuracies and differences give corrections the share that they have among all reviews.
    """

    rows: int = 0
    excluded_rows: int = 0
    champion_accuracy: float = 0.0
    challenger_accuracy: float = 0.0
    accuracy_difference: Interval | None = None
    brier_difference: Interval | None = None
    gained: int = 0
    lost: int = 0
    p_value: float = 0.0
    weighted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration(Model):
    """A version's temperature, and what it does on the held-out rows.

    Attributes:
        temperature: Probabilities are softmax(logits / temperature). Where none was fitted, 1 or the parent's.
        rows: Rows it was fitted on: neither held out for the gate, nor trained on by it or its parent. 0: none.
        cross_fitted: Whether each of those rows was predicted by a training that left it out, in folds.
        uncalibrated: Scores on all held-out rows without it.
        calibrated: Scores on all held-out rows with it.
    """

    temperature: float = 0.0
    rows: int = 0
    cross_fitted: bool = False
    uncalibrated: Metrics | None = None
    calibrated: Metrics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LearntCorrections(Model):
    """What was learnt of corrections that were held out.

    Attributes:
        rows: Corrections held out.
        champion_right: Of them, those that the champion has right.
        challenger_right: Of them, those that the challenger has right.
        by_chance: Share that the challenger's answers would have right if they were dealt out by chance.
        p_value: Probability that chance has as many right as the challenger.
    """

    rows: int = 0
    champion_right: int = 0
    challenger_right: int = 0
    by_chance: float = 0.0
    p_value: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict(Model):
    """The gate's verdict, and what followed from it.

    Attributes:
        outcome: How the challenger compares with the champion.
        champion: A version's full name, or `base`.
        champion_metrics: Scores of the champion on the held-out rows that neither has trained on.
        challenger_metrics: Scores of the challenger on the same rows.
        explanation: The rule's reasoning, with the numbers.
        activated: Whether the version was put in force.
        held: Why it was not, although the verdict allows it; empty otherwise.
        held_out: Both on the held-out reviews, weighted to the review error rate.
        anchor: Both on the rows that no model's errors chose, which decide what learning cost.
        learnt: The held-out corrections, where they were picked out because a model erred.
        more_reviews: UNDECIDED: about how many more reviews would decide; 0 if no number would.
        general_rows_decided: Whether `anchor` is the base model's general rows.
    """

    outcome: VerdictOutcome = VerdictOutcome.UNSPECIFIED
    champion: str = ""
    champion_metrics: Metrics | None = None
    challenger_metrics: Metrics | None = None
    explanation: str = ""
    activated: bool = False
    held: str = ""
    held_out: Comparison | None = None
    anchor: Comparison | None = None
    learnt: LearntCorrections | None = None
    more_reviews: int = 0
    general_rows_decided: bool = False
