"""Settings of a training that depend on its rows, filled in when the job is accepted."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lyra_adapters_server.errors import Violation, invalid
from lyra_adapters_server.feedback.inner import choosing, wanted_folds
from lyra_adapters_server.feedback.replay import replay_count
from lyra_adapters_server.trainer.balance import label_weights, review_weights
from lyra_adapters_server.types import Sample, TrainingConfig

_INCOMPARABLE = (
    "are compared on documents that they were not trained on, and all rows to train on belong to one (group, or the "
    "same text); send rows of more documents, or no candidates"
)
_ALL_SEEN = (
    "are compared on documents that neither they nor what they continue from was trained on, and there are fewer than "
    "two; send rows of other documents, or no candidates"
)


def settle_training(
    training: TrainingConfig,
    rows: Sequence[Sample],
    *,
    recorded: bool,
    continued: bool,
    seen: Collection[int] = (),
) -> TrainingConfig:
    """The settings with every default filled in.

    Args:
        training: As asked for.
        rows: The training rows.
        recorded: Whether they come from recorded feedback; only then general rows are trained on unasked.
        continued: Whether it goes on from a version; only then that version's answers are learnt unasked.
        seen: Positions of the rows that this version was trained on.

    Raises:
        Refusal: Several candidates are to be tried, and the rows leave nothing to compare them on.
    """
    folds, several = wanted_folds(len(rows), training), len(training.candidates) > 1
    if folds > 1 or several or seen:
        # Only then: documents of thousands of rows are found by their texts.
        documents = choosing(rows, seen)
        if several and len(documents) < 2:
            why = _ALL_SEEN if seen else _INCOMPARABLE
            raise invalid([Violation("training.candidates", why)], "NOTHING_TO_COMPARE_ON")
        count = sum(len(document.rows) for document in documents)
        folds = max(1, min(wanted_folds(count, training), len(documents)))
    reviews = review_weights(rows, training.balance_reviews)
    replay = training.replay_general_rows
    return training.model_copy(
        update={
            "folds": folds,
            "balance_labels": label_weights(rows, training.balance_labels, reviews) is not None,
            "balance_reviews": reviews is not None,
            "replay_general_rows": (recorded and replay_count(rows) > 0) if replay is None else replay,
            "distillation": float(continued) if training.distillation is None else training.distillation,
        }
    )
