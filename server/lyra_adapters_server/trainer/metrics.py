"""Scores of predicted probabilities against the correct labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lyra_adapters_server.types import LABELS, Metrics

# Keeps the loss finite when a probability has been rounded to 0.
_LEAST = 1e-12


def compute_metrics(probabilities: Sequence[Sequence[float]], labels: Sequence[int]) -> Metrics:
    """Scores rows.

    Args:
        probabilities: (rows, 3), each row summing to 1, in the order of LABELS.
        labels: (rows), indices into LABELS.

    Returns:
        Accuracy; F1 averaged over the three labels (a label that neither occurs nor is predicted counts 0); Brier,
        summed over labels and averaged over rows (0 to 2); loss, the mean negative log-likelihood in nats; confusion.

    Raises:
        ValueError: If there is no row, or the lengths differ.
    """
    if not labels or len(probabilities) != len(labels):
        raise ValueError(f"{len(probabilities)} rows of probabilities for {len(labels)} labels")
    size = len(LABELS)
    confusion = [[0] * size for _ in range(size)]
    brier = loss = 0.0
    for row, label in zip(probabilities, labels, strict=True):
        predicted = max(range(size), key=lambda index: row[index])
        confusion[label][predicted] += 1
        brier += sum((row[index] - (index == label)) ** 2 for index in range(size))
        loss -= math.log(max(row[label], _LEAST))
    count = len(labels)
    f1 = 0.0
    for index in range(size):
        hits = confusion[index][index]
        occurring = sum(confusion[index])
        predicted_so = sum(line[index] for line in confusion)
        if occurring + predicted_so:
            f1 += 2 * hits / (occurring + predicted_so)
    return Metrics(
        samples=count,
        accuracy=sum(confusion[index][index] for index in range(size)) / count,
        macro_f1=f1 / size,
        brier=brier / count,
        loss=loss / count,
        confusion=confusion,
    )
