"""Weights that make each label count alike in the loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # The server asks for weights too, and imports no torch.
    from lyra_adapters_server.trainer.data import Row

# From this ratio of the most frequent label to the rarest on, rows are weighed unless the request says otherwise.
_UNBALANCED = 3.0
# A label of a handful of rows is not made to count for hundreds.
_HEAVIEST = 4.0


def label_weights(labels: Sequence[int], wanted: bool | None) -> dict[int, float] | None:
    """The weight of each label's rows; their mean over all rows is 1. None: every row weighs 1.

    Args:
        labels: Of the training rows, indices into LABELS.
        wanted: Whether to weigh; None: where the labels are far from balanced.
    """
    counts = Counter(labels)
    if len(counts) < 2 or wanted is False:
        return None
    if wanted is None and max(counts.values()) < _UNBALANCED * min(counts.values()):
        return None
    even = {label: len(labels) / (len(counts) * count) for label, count in counts.items()}
    bounded = {label: min(weight, _HEAVIEST) for label, weight in even.items()}
    mean = sum(bounded[label] * count for label, count in counts.items()) / len(labels)
    return {label: weight / mean for label, weight in bounded.items()}


def weighted(rows: Sequence[Row], wanted: bool | None) -> list[Row]:
    """The rows with the weights of their labels."""
    weights = label_weights([row.label for row in rows], wanted)
    return [replace(row, weight=weights[row.label]) for row in rows] if weights else list(rows)
