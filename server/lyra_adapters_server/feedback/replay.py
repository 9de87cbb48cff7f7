"""What is trained on beside the corrections, so that learning them does not unlearn the rest."""

from __future__ import annotations

from collections.abc import Sequence

from lyra_adapters_server.feedback.general import GeneralRows
from lyra_adapters_server.types import Sample

# General rows for so many training rows: enough to hold on to, few enough not to drown the corrections.
_EVERY = 3


def has_confirmations(samples: Sequence[Sample]) -> bool:
    """Whether some review confirms what a model said: such rows are replay of their own."""
    return any(sample.original_label == sample.correct_label for sample in samples)


def replay_rows(training: Sequence[Sample], general: GeneralRows) -> tuple[Sample, ...]:
    """General rows to train on beside the reviews: one for every three of them, as far as there are, by document."""
    return general.replay[: len(training) // _EVERY // 3 * 3]
