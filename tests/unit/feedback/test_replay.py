"""General rows beside corrections: how many, and which."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from lyra_adapters_server.feedback.general import GeneralRows
from lyra_adapters_server.feedback.replay import replay_rows
from lyra_adapters_server.types import LABELS, Label, Sample


def general(count: int) -> list[Sample]:
    return [
        Sample(id=f"g{n}", premise=f"p{n // 3}", hypothesis=f"h{n}", correct_label=LABELS[n % 3], group=f"d{n // 3}")
        for n in range(count)
    ]


def reviews(corrections: int, confirmations: int) -> list[Sample]:
    said = [Label.REFUTES] * corrections + [Label.SUPPORTS] * confirmations
    return [
        Sample(id=str(n), premise=f"r{n}", hypothesis="h", correct_label=Label.SUPPORTS, original_label=original)
        for n, original in enumerate(said)
    ]


@pytest.mark.parametrize(
    ("corrections", "confirmations", "wanted"),
    [(119, 1, 39), (120, 0, 40), (6, 0, 2), (2, 0, 0), (90, 30, 10), (60, 30, 0), (10, 50, 0), (4000, 0, 54)],
)
def test_as_many_are_replayed_as_confirmations_are_missing(corrections: int, confirmations: int, wanted: int) -> None:
    rows = replay_rows(reviews(corrections, confirmations), GeneralRows((), tuple(general(54))))
    assert len(rows) == len(set(rows)) == wanted
    labels = Counter(row.correct_label for row in rows)
    assert max(labels[label] for label in LABELS) - min(labels[label] for label in LABELS) <= 1


def test_the_order_of_the_file_decides_nothing() -> None:
    rows = general(54)
    by_label = sorted(rows, key=lambda row: row.correct_label)
    shuffled = random.Random(1).sample(rows, len(rows))
    chosen = replay_rows(reviews(60, 0), GeneralRows((), tuple(rows)))
    assert chosen == replay_rows(reviews(60, 0), GeneralRows((), tuple(by_label)))
    assert chosen == replay_rows(reviews(60, 0), GeneralRows((), tuple(shuffled)))
    # Whole documents, as far as it goes.
    assert len({row.group for row in chosen}) == 7


def test_where_a_label_has_few_rows_the_others_fill_up() -> None:
    few = [row for row in general(54) if row.correct_label != Label.NEUTRAL or row.id == "g2"]
    labels = Counter(row.correct_label for row in replay_rows(reviews(60, 0), GeneralRows((), tuple(few))))
    assert (labels[Label.NEUTRAL], sum(labels.values())) == (1, 20)
