"""What is trained on beside the corrections, so that learning them does not unlearn the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import chain, islice, zip_longest

from lyra_adapters_server.feedback.general import GeneralRows
from lyra_adapters_server.types import LABELS, Sample

# General rows for so many training rows: enough to hold on to, few enough not to drown the corrections.
_EVERY = 3


def replay_count(training: Sequence[Sample]) -> int:
    """How many general rows are wanted: one for every three reviews, less the confirmations, which are replay too."""
    return max(0, len(training) // _EVERY - sum(row.original_label == row.correct_label for row in training))


def replay_rows(training: Sequence[Sample], general: GeneralRows) -> tuple[Sample, ...]:
    """General rows to train on beside the reviews, as far as there are: the labels in turn, document by document."""
    # By a hash, so that the order in which they are kept decides nothing.
    drawn = sorted(general.replay, key=lambda row: (_digest(row.group), _digest(f"{row.premise}\0{row.hypothesis}")))
    by_label = [[row for row in drawn if row.correct_label == label] for label in LABELS]
    in_turn = (row for row in chain.from_iterable(zip_longest(*by_label)) if row is not None)
    return tuple(islice(in_turn, replay_count(training)))


def _digest(text: str) -> str:
    return hashlib.sha256(f"replay\0{text}".encode()).hexdigest()
