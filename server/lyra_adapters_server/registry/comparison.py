"""Two models on the same rows: paired differences with intervals, an exact test, and how many rows would decide."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtr, ndtri, stdtrit

from lyra_adapters_server.types import LABELS, Sample

Probabilities = Sequence[tuple[float, float, float]]

# Resamples of a bootstrap: enough that a bound moves by less than its own rounding when the seed changes.
RESAMPLES = 2000
# Spread of half a document each way, with a Brier difference of 0.5, which a bootstrap adds: few that happen to agree
# would else claim certainty.
_HALF_DOCUMENTS = 0.5 * 0.5 * math.sqrt(2)
# Chance of an experiment with the rows that are asked for to decide, if the difference is what it seems.
POWER = 0.8


@dataclass(frozen=True)
class Estimate:
    """A difference, challenger minus champion, with a 95 % interval and its per-row variance.

    Bounds are Student's, with one degree of freedom for each document but one: a spread that a handful of documents
    show may be far from theirs, and a single one shows none.
    """

    value: float
    low: float
    high: float
    # What one row adds to the variance of the mean; the variance of `value` is this over the rows.
    row_variance: float
    rows: int
    documents: int

    def lower(self, confidence: float) -> float:
        """The bound below which the difference lies with at most probability 1 - `confidence`."""
        return self.value - student(confidence, self.documents) * self.error

    def upper(self, confidence: float) -> float:
        """The bound above which the difference lies with at most probability 1 - `confidence`."""
        return self.value + student(confidence, self.documents) * self.error

    @property
    def error(self) -> float:
        """The standard error."""
        return math.sqrt(self.row_variance / self.rows) if self.rows else math.inf

    def rows_for(self, distance: float, confidence: float) -> float:
        """Rows after which a difference that lies `distance` from a bound is told from it, with chance POWER."""
        if distance <= 0:
            return math.inf
        return self.row_variance * (float(ndtri(confidence) + ndtri(POWER)) / distance) ** 2


@dataclass(frozen=True)
class Comparison:
    """Champion and challenger on the same rows.

    Attributes:
        rows: Rows compared.
        champion_accuracy: Share of rows that the champion has right; weighted, as the differences are.
        challenger_accuracy: The same of the challenger.
        accuracy: Difference of the accuracies; above 0 the challenger is better. 95 % interval.
        brier: Difference of the Brier scores; below 0 the challenger is better. 95 % interval.
        gained: Rows that the champion had wrong and the challenger has right.
        lost: Rows the other way round.
        p_value: Exact two-sided McNemar test of gained against lost.
        weighted: Whether rows count unevenly in accuracies and differences.
    """

    rows: int
    champion_accuracy: float
    challenger_accuracy: float
    accuracy: Estimate
    brier: Estimate
    gained: int
    lost: int
    p_value: float
    weighted: bool = False


@dataclass(frozen=True)
class Chance:
    """How much better a model's probabilities fit their rows than if they were dealt out among them by chance.

    Attributes:
        rows: Rows looked at.
        z: The probability given to the correct labels, summed; less its mean under chance, in standard deviations.
    """

    rows: int
    z: float

    @property
    def p_value(self) -> float:
        """Probability that chance does as well."""
        return float(ndtr(-self.z))

    def rows_for(self, significance: float) -> float:
        """Rows after which chance would be ruled out, with chance POWER, if the model is as good as it seems."""
        if self.z <= 0:
            return math.inf
        return self.rows * (float(ndtri(1 - significance) + ndtri(POWER)) / self.z) ** 2


def student(confidence: float, documents: int) -> float:
    """Standard errors from a mean over so many documents to its one-sided bound; infinite for a single document."""
    return float(stdtrit(documents - 1, confidence)) if documents > 1 else math.inf


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided p-value of McNemar's test: rows that changed fall either way like a fair coin (1947).

    Args:
        gained: Rows that only the challenger has right.
        lost: Rows that only the champion has right.
    """
    changed = gained + lost
    return min(1.0, 2.0 * float(bdtr(min(gained, lost), changed, 0.5))) if changed else 1.0


def compare(
    samples: Sequence[Sample],
    champion: Probabilities,
    challenger: Probabilities,
    weights: Sequence[float] | None = None,
) -> Comparison:
    """Compares two sets of probabilities for the same rows. There must be at least one row.

    The interval of the accuracies' difference adds half a gained and half a lost row to each stratum (rows of equal
    weight), as Agresti and Min (2005) do for matched pairs: without that, few rows that happen to agree would claim
    certainty. The Brier scores' difference gets a paired bootstrap that draws whole documents (rows of one group or
    one premise), because rows of one document err together, and adds half a document each way. The same documents
    widen the accuracies' interval by the design effect that the rows show. Both intervals are as much wider as few
    documents ask for (Hesterberg, 2015, What teachers should know about the bootstrap).

    Args:
        samples: The rows, with their correct labels.
        champion: (rows, 3), in the order of LABELS.
        challenger: The same.
        weights: Of the rows; their mean is made 1. None: all alike.
    """
    labels = np.array([LABELS.index(sample.correct_label) for sample in samples])
    weight = np.ones(len(samples)) if weights is None else np.asarray(weights, dtype=float)
    weight = weight / weight.mean()
    old, new = np.asarray(champion, dtype=float), np.asarray(challenger, dtype=float)
    right_before, right_after = old.argmax(axis=1) == labels, new.argmax(axis=1) == labels
    gained, lost = int((right_after & ~right_before).sum()), int((right_before & ~right_after).sum())
    clusters = _clusters(samples)
    return Comparison(
        rows=len(samples),
        champion_accuracy=float((weight * right_before).mean()),
        challenger_accuracy=float((weight * right_after).mean()),
        accuracy=_accuracy(right_after.astype(float) - right_before, weight, clusters),
        brier=_bootstrap(weight * (_brier(new, labels) - _brier(old, labels)), weight, clusters),
        gained=gained,
        lost=lost,
        p_value=mcnemar(gained, lost),
        weighted=weights is not None,
    )


def beyond_chance(samples: Sequence[Sample], probabilities: Probabilities) -> Chance:
    """A permutation test: does the model give the correct labels more than it would if rows and labels were reshuffled?

    Probabilities tell more than answers, so that a model that is right on half of 200 rows is told from chance nearly
    always. Mean and variance over all permutations are exact and the sum is nearly normal (Hoeffding, 1951, A
    combinatorial central limit theorem); rows of one document widen it by their design effect.

    Args:
        samples: The rows, with their correct labels.
        probabilities: (rows, 3), in the order of LABELS.
    """
    rows = len(samples)
    labels = np.array([LABELS.index(sample.correct_label) for sample in samples])
    given = np.asarray(probabilities, dtype=float).reshape(rows, len(LABELS))
    shares = np.bincount(labels, minlength=len(LABELS)) / max(1, rows)
    # What is left when what a row gives all labels, and what all rows give a label, is taken away.
    own = given - given.mean(axis=0) - (given @ shares)[:, None] + given.mean(axis=0) @ shares
    variance = float((own**2 @ shares).sum()) * rows / max(1, rows - 1)
    # Rounding leaves a trace where every row has the same probabilities.
    if variance <= 1e-18 * rows:
        return Chance(rows, 0.0)
    correct = own[np.arange(rows), labels]
    return Chance(rows, float(correct.sum()) / math.sqrt(variance * _design_effect(correct, _clusters(samples))))


def _brier(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = ((probabilities - np.eye(len(LABELS))[labels]) ** 2).sum(axis=1)
    return found


def _clusters(samples: Sequence[Sample]) -> list[NDArray[np.int64]]:
    """The positions of the rows of each document."""
    found: dict[str, list[int]] = defaultdict(list)
    for index, sample in enumerate(samples):
        found[sample.group or sample.premise].append(index)
    return [np.array(rows) for rows in found.values()]


def _accuracy(
    difference: NDArray[np.float64], weight: NDArray[np.float64], clusters: list[NDArray[np.int64]]
) -> Estimate:
    rows = len(difference)
    value = float((weight * difference).mean())
    variance = 0.0
    for level in np.unique(weight):
        stratum = difference[weight == level]
        count = len(stratum) + 2
        changed, mean = (np.abs(stratum).sum() + 1) / count, stratum.sum() / count
        # The stratum's share of the weighted mean, squared, times the variance of its own mean.
        variance += float((level * len(stratum) / rows) ** 2 * (changed - mean**2) / count)
    effect = _design_effect(weight * difference, clusters) * _few(len(clusters))
    reach = student(0.975, len(clusters)) * math.sqrt(variance * effect)
    low, high = max(-1.0, value - reach), min(1.0, value + reach)
    return Estimate(value, low, high, variance * effect * rows, rows, len(clusters))


def _design_effect(values: NDArray[np.float64], clusters: list[NDArray[np.int64]]) -> float:
    """How much wider the mean spreads because rows of a document go together; at least 1 (Kish, 1965)."""
    centred = values - values.mean()
    alone = float((centred**2).sum())
    together = float(sum(centred[rows].sum() ** 2 for rows in clusters))
    return max(1.0, together / alone) if alone > 0 else 1.0


def _few(documents: int) -> float:
    """What a variance over few documents must be multiplied with, since their own mean was taken from each."""
    return documents / max(1, documents - 1)


def _bootstrap(values: NDArray[np.float64], weight: NDArray[np.float64], clusters: list[NDArray[np.int64]]) -> Estimate:
    """An interval of the weighted mean over resampled documents; the same rows give the same bounds.

    Percentiles, spread from the mean by as much as few documents ask for.
    """
    value, rows, documents = float(values.mean()), len(values), len(clusters)
    sums = np.array([values[rows].sum() for rows in clusters])
    weights = np.array([weight[rows].sum() for rows in clusters])
    random = np.random.default_rng(0)
    drawn = random.integers(documents, size=(RESAMPLES, documents))
    means = sums[drawn].sum(axis=1) / weights[drawn].sum(axis=1)
    means += random.normal(0, _HALF_DOCUMENTS / documents, RESAMPLES)
    few = _few(documents)
    wider = math.sqrt(few) * student(0.975, documents) / float(ndtri(0.975))
    low, high = (value + wider * (float(bound) - value) for bound in np.quantile(means, (0.025, 0.975)))
    return Estimate(value, max(-2.0, low), min(2.0, high), float(means.var()) * few * rows, rows, documents)
