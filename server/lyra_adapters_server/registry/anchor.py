"""Which rows a challenger is judged on: whether reviews stand for use as it is, and how they are weighted."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lyra_adapters_server.types import Sample

# Fewest rows that can be an anchor: on fewer, a loss of ten points would usually go unnoticed.
MIN_ANCHOR_ROWS = 40
# Fewest confirmations without which the share of corrections among reviews says nothing.
MIN_CONFIRMATIONS = 10


def is_correction(sample: Sample) -> bool:
    """Whether a reviewer overruled what a model had said."""
    return sample.original_label not in (None, sample.correct_label)


def anchor_positions(held_out: Sequence[Sample]) -> list[int]:
    """Positions of the held-out rows that show use as it is, so that they can anchor the verdict; none if too few."""
    left_out = set(picked_out(held_out))
    found = [index for index in range(len(held_out)) if index not in left_out]
    return found if len(found) >= MIN_ANCHOR_ROWS else []


def picked_out(samples: Sequence[Sample]) -> tuple[int, ...]:
    """Positions of the rows that don't show use as it is: reviews that came because a model had erred.

    Rows of which no prediction is known do show it: no model's errors chose them. Reviewed rows do if confirmations are
    among them in their proportion: at least MIN_CONFIRMATIONS, and at least half as many as the corrections, because
    even guessing is right on every third pair, so more corrections than that were picked out. Corrections that were
    picked out do not: the model in force is wrong on them because that is why they are there. Nor do their few
    confirmations, on which it is right for the same reason.
    """
    if not confirmations_missing(samples):
        return ()
    return tuple(index for index, sample in enumerate(samples) if sample.original_label is not None)


def confirmations_missing(samples: Sequence[Sample]) -> int:
    """How many confirmations more would make reviewed rows show use as it is; see picked_out()."""
    reviewed = sum(sample.original_label is not None for sample in samples)
    corrections = sum(map(is_correction, samples))
    wanted = max(MIN_CONFIRMATIONS, math.ceil(corrections / 2)) if reviewed else 0
    return max(0, wanted - (reviewed - corrections))


def review_error_rate(reviews: Sequence[Sample]) -> float | None:
    """Share of reviewed predictions that were wrong, or None where no confirmation was sent: then it is not known."""
    reviewed = [sample for sample in reviews if sample.original_label is not None]
    wrong = sum(map(is_correction, reviewed))
    return wrong / len(reviewed) if reviewed and wrong < len(reviewed) else None


def review_weights(held_out: Sequence[Sample], error_rate: float | None) -> list[float] | None:
    """Weights that give corrections among held-out reviews the share that they have among all reviews.

    None where nothing is to be weighted: no rate is known, or one of the two kinds is missing. Rows of which no
    prediction is known weigh 1.
    """
    reviewed = sum(sample.original_label is not None for sample in held_out)
    corrections = sum(map(is_correction, held_out))
    if error_rate is None or error_rate == 0 or not 0 < corrections < reviewed:
        return None
    share = corrections / reviewed
    weights = {True: error_rate / share, False: (1 - error_rate) / (1 - share)}
    return [1.0 if row.original_label is None else weights[is_correction(row)] for row in held_out]
