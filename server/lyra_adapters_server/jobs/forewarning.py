"""What a job's stream warns of when its training begins: rows of which little can be learnt, or measured."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from lyra_adapters_server.trainer.balance import label_weights, review_weights
from lyra_adapters_server.trainer.spec import TrainSpec
from lyra_adapters_server.types import LABELS, Label, Sample

Warned = dict[str, str]


def forewarnings(spec: TrainSpec) -> list[Warned]:
    """The warnings, in words; none where the rows are as they should be."""
    warned = [] if spec.validation_samples else [_nothing_held_out(spec.training.validation_fraction)]
    rows = (*spec.training_samples, *spec.replay_samples)
    counts = Counter(row.correct_label for row in rows)
    if missing := [label for label in LABELS if not counts[label]]:
        warned.append(_labels_missing(missing))
    if unbalanced := _labels_unbalanced(spec, rows, counts):
        warned.append(unbalanced)
    return warned


def _nothing_held_out(fraction: float) -> Warned:
    # A document is held out if that brings the share of its label nearer to the fraction (feedback/split.py).
    more = (
        f"documents (`group`): at a validation_fraction of {fraction:g} the first is held out of about "
        f"{math.floor(0.5 / fraction) + 1} of the same label. Or send a larger validation_fraction."
        if fraction
        else "documents (`group`) with a validation_fraction above 0."
    )
    return {
        "reason": "NOTHING_HELD_OUT",
        "message": "No rows could be held out, so nothing can be measured and the verdict will be UNDECIDED. Rows are "
        f"held out by document: send rows of more {more}",
    }


def _labels_missing(missing: Sequence[Label]) -> Warned:
    named = " or ".join(missing)
    return {
        "reason": "LABELS_MISSING",
        "message": f"No row to train on is {named}, so the version learns nothing of that and may hardly ever answer "
        f"it. Send rows that are {named} too.",
    }


def _labels_unbalanced(spec: TrainSpec, rows: Sequence[Sample], counts: Counter[Label]) -> Warned | None:
    reviews = review_weights(rows, spec.training.balance_reviews)
    if label_weights(rows, None, reviews) is None:
        return None
    found = ", ".join(f"{counts[label]} {label}" for label in LABELS if counts[label])
    weights = label_weights(rows, spec.training.balance_labels, reviews)
    if weights is None:
        done = "They are trained on as they are (balance_labels is off), so the rare ones are hardly learnt."
    else:
        each = ", ".join(f"{weights[label]:.2g} {label}" for label in LABELS if label in weights)
        done = (
            "Each label counts alike in the loss, as far as no row weighs more than four times the mean before weights "
            f"are scaled back to a mean of 1: a row weighs {each}."
        )
    general = ", general rows included," if spec.replay_samples else ""
    return {
        "reason": "LABELS_UNBALANCED",
        "message": f"The labels of the rows to train on{general} are far from balance: {found}. {done} More rows of "
        "the rare labels would teach more.",
    }
