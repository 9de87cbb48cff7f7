"""Settings of a training that depend on its rows, filled in when the job is accepted."""

from __future__ import annotations

from collections.abc import Sequence

from lyra_adapters_server.feedback.inner import usual_folds
from lyra_adapters_server.feedback.replay import has_confirmations
from lyra_adapters_server.trainer.balance import label_weights
from lyra_adapters_server.types import LABELS, Sample, TrainingConfig


def settle_training(training: TrainingConfig, rows: Sequence[Sample], *, recorded: bool) -> TrainingConfig:
    """The settings with every default filled in.

    Args:
        training: As asked for.
        rows: The training rows.
        recorded: Whether they come from recorded feedback; only then general rows are trained on unasked.
    """
    labels = [LABELS.index(row.correct_label) for row in rows]
    replay = training.replay_general_rows
    return training.model_copy(
        update={
            "folds": training.folds or usual_folds(len(rows)),
            "balance_labels": label_weights(labels, training.balance_labels) is not None,
            "replay_general_rows": (recorded and not has_confirmations(rows)) if replay is None else replay,
        }
    )
