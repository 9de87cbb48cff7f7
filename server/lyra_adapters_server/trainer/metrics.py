"""Scores of predicted probabilities against the correct labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lyra_adapters_server.types import LABELS, Metrics

# Keeps the loss finite when a probability has been rounded to 0.
_LEAST = 1e-12

# Bins of the calibration error, and the fewest rows that a bin must have.
_BINS = 10
_LEAST_BIN = 10
# Fewest rows that a calibration error says anything of.
LEAST_CALIBRATED = 2 * _LEAST_BIN


def compute_metrics(
    probabilities: Sequence[Sequence[float]],
    labels: Sequence[int],
    temperature: float = 1.0,
    weights: Sequence[float] | None = None,
) -> Metrics:
    """Scores rows.

    Args:
        probabilities: (rows, 3), each row summing to 1, in the order of LABELS.
        labels: (rows), indices into LABELS.
        temperature: What the logits behind the probabilities were divided by.
        weights: (rows), how much each counts, but for the confusion and the calibration error; None: alike.

    Returns:
        Accuracy; F1 averaged over the three labels (a label that neither occurs nor is predicted counts 0); Brier,
        summed over labels and averaged over rows (0 to 2); loss, the mean negative log-likelihood in nats; confusion;
        calibration error (see calibration_error). `temperature` is only noted.

    Raises:
        ValueError: If there is no row, or the lengths differ.
    """
    if not labels or len(probabilities) != len(labels):
        raise ValueError(f"{len(probabilities)} rows of probabilities for {len(labels)} labels")
    size = len(LABELS)
    confusion = [[0] * size for _ in range(size)]
    weighed = [[0.0] * size for _ in range(size)]
    brier = loss = 0.0
    for row, label, weight in zip(probabilities, labels, weights or [1.0] * len(labels), strict=True):
        predicted = max(range(size), key=lambda index: row[index])
        confusion[label][predicted] += 1
        weighed[label][predicted] += weight
        brier += weight * sum((row[index] - (index == label)) ** 2 for index in range(size))
        loss += weight * row_loss(row, label)
    count = sum(map(sum, weighed))
    f1 = 0.0
    for index in range(size):
        hits = weighed[index][index]
        occurring = sum(weighed[index])
        predicted_so = sum(line[index] for line in weighed)
        if occurring + predicted_so:
            f1 += 2 * hits / (occurring + predicted_so)
    return Metrics(
        samples=len(labels),
        accuracy=sum(weighed[index][index] for index in range(size)) / count,
        macro_f1=f1 / size,
        brier=brier / count,
        loss=loss / count,
        confusion=confusion,
        calibration_error=calibration_error(probabilities, labels),
        temperature=temperature,
    )


def row_loss(row: Sequence[float], label: int) -> float:
    """The negative log-likelihood of a row's label, in nats."""
    return -math.log(max(row[label], _LEAST))


def calibration_error(probabilities: Sequence[Sequence[float]], labels: Sequence[int]) -> float:
    """How far the probability of the predicted label lies from how often it is right: de-biased, 0 to 1.

    Rows are sorted by that probability into bins of equal size. The plain estimate, the root of the mean squared gap
    between a bin's mean probability and its share of right rows, is too high, because a share over few rows strays by
    chance; the variance of that straying is subtracted in each bin (Kumar, Liang and Ma, 2019, arXiv 1909.10155). What
    is left below zero counts as zero, so that small sets can say "none to be seen".

    Args:
        probabilities: (rows, 3).
        labels: (rows), indices into LABELS.

    Returns:
        0.0 for fewer than LEAST_CALIBRATED rows: too few to say.
    """
    told = [
        (max(row), max(range(len(row)), key=row.__getitem__) == label)
        for row, label in zip(probabilities, labels, strict=True)
    ]
    # By the probability alone: rows that tie must not be sorted by whether they are right.
    told.sort(key=lambda one: one[0])
    count = len(told)
    bins = min(_BINS, count // _LEAST_BIN)
    if bins < 2:
        return 0.0
    squared = 0.0
    for number in range(bins):
        part = told[count * number // bins : count * (number + 1) // bins]
        size = len(part)
        share = sum(right for _, right in part) / size
        gap = sum(confidence for confidence, _ in part) / size - share
        squared += size / count * (gap**2 - share * (1 - share) / (size - 1))
    return math.sqrt(max(0.0, squared))
