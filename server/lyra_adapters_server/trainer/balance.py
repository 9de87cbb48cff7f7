"""What each training row weighs in the loss. Imports no torch: the server asks for it too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from lyra_adapters_server.types import Sample, TrainingConfig

# From this ratio of the most frequent label to the rarest on, rows are weighed unless the request says otherwise.
_UNBALANCED = 3.0
# A label of a handful of rows is not made to count for hundreds: no row weighs more than this many times the mean,
# before weights are scaled back to a mean of 1. With one label for nearly all rows the ratio comes near 12.
_HEAVIEST = 4.0
# Even guessing is right on every third pair: with more corrections than this for each confirmation, errors were picked
# out.
_PICKED_OUT = 2.0
# Nor are a handful of confirmations made to count for hundreds of corrections.
_HEAVIEST_CONFIRMATION = 8.0


def row_weights(samples: Sequence[Sample], training: TrainingConfig) -> list[float] | None:
    """What each row weighs in the loss; their mean is 1. None: every row weighs 1.

    Args:
        samples: The training rows.
        training: Says whether labels and reviews are balanced; see label_weights() and review_weights().
    """
    reviews = review_weights(samples, training.balance_reviews)
    labels = label_weights(samples, training.balance_labels, reviews)
    if reviews is None and labels is None:
        return None
    found = [
        (reviews[index] if reviews else 1.0) * (labels[sample.correct_label] if labels else 1.0)
        for index, sample in enumerate(samples)
    ]
    mean = sum(found) / len(found)
    return [weight / mean for weight in found]


def review_weights(samples: Sequence[Sample], wanted: bool | None) -> list[float] | None:
    """Weights under which confirmations count as much as corrections, all together; None: nothing is to be weighed.

    Users report errors, so a model that is right on half of what it is asked is wrong on nearly all that is reviewed.
    Trained on these as they come it learns to contradict what it used to say, errors or not. How often it is right in
    use is not known here; one half is assumed, since weights for more would let a few confirmations decide everything.
    A row that nobody's prediction is known of weighs 1.

    Args:
        samples: The training rows.
        wanted: Whether to weigh; None: where more than two of three reviews are corrections, so that errors were picked
            out.
    """
    reviewed = [sample for sample in samples if sample.original_label is not None]
    right = sum(sample.original_label == sample.correct_label for sample in reviewed)
    wrong = len(reviewed) - right
    if not right or not wrong or wanted is False or (wanted is None and wrong <= _PICKED_OUT * right):
        return None
    ratio = min(wrong / right, _HEAVIEST_CONFIRMATION)
    correction = len(reviewed) / (wrong + ratio * right)
    return [
        1.0
        if sample.original_label is None
        else correction * (ratio if sample.original_label == sample.correct_label else 1.0)
        for sample in samples
    ]


def label_weights(
    samples: Sequence[Sample], wanted: bool | None, weights: Sequence[float] | None = None
) -> dict[str, float] | None:
    """The weight of each label's rows; their mean over all rows is 1. None: every row weighs 1.

    Args:
        samples: The training rows.
        wanted: Whether to weigh; None: where the labels are far from balanced.
        weights: What the rows weigh already.
    """
    counts: dict[str, float] = defaultdict(float)
    for index, sample in enumerate(samples):
        counts[sample.correct_label] += weights[index] if weights else 1.0
    if len(counts) < 2 or wanted is False:
        return None
    if wanted is None and max(counts.values()) < _UNBALANCED * min(counts.values()):
        return None
    total = sum(counts.values())
    even = {label: total / (len(counts) * count) for label, count in counts.items()}
    bounded = {label: min(weight, _HEAVIEST) for label, weight in even.items()}
    mean = sum(bounded[label] * count for label, count in counts.items()) / total
    return {label: weight / mean for label, weight in bounded.items()}
