"""Settings of a training that depend on its rows, filled in when the job is accepted."""

from __future__ import annotations

from collections.abc import Sequence

from lyra_adapters_server.feedback.inner import fold_count
from lyra_adapters_server.feedback.replay import replay_count
from lyra_adapters_server.trainer.balance import label_weights, review_weights
from lyra_adapters_server.types import Sample, TrainingConfig


def settle_training(
    training: TrainingConfig, rows: Sequence[Sample], *, recorded: bool, continued: bool
) -> TrainingConfig:
    """The settings with every default filled in.

    Args:
        training: As asked for.
        rows: The training rows.
        recorded: Whether they come from recorded feedback; only then general rows are trained on unasked.
        continued: Whether it goes on from a version; only then that version's answers are learnt unasked.
    """
    reviews = review_weights(rows, training.balance_reviews)
    replay = training.replay_general_rows
    return training.model_copy(
        update={
            "folds": fold_count(rows, training),
            "balance_labels": label_weights(rows, training.balance_labels, reviews) is not None,
            "balance_reviews": reviews is not None,
            "replay_general_rows": (recorded and replay_count(rows) > 0) if replay is None else replay,
            "distillation": float(continued) if training.distillation is None else training.distillation,
        }
    )
