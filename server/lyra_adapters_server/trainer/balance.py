"""Weights that make each label count alike in the loss. Imports no torch: the server asks for them too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

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
