"""What training rows weigh: labels alike, and confirmations as much as corrections."""

from __future__ import annotations

import pytest
from lyra_adapters_server.trainer.balance import label_weights, review_weights, row_weights
from lyra_adapters_server.types import LABELS, Label, Sample, TrainingConfig


def rows(*labels: int, said: Label | None = None) -> list[Sample]:
    return [
        Sample(id=str(number), premise="p", hypothesis=f"h {number}", correct_label=LABELS[label], original_label=said)
        for number, label in enumerate(labels)
    ]


def reviews(corrections: int, confirmations: int) -> list[Sample]:
    return rows(*[0] * corrections, said=Label.REFUTES) + rows(*[0] * confirmations, said=Label.SUPPORTS)


def test_labels_far_from_balance_are_weighed() -> None:
    assert label_weights(rows(0, 0, 1, 2), None) is None
    uneven = rows(*[0] * 90, *[1] * 10)
    weights = label_weights(uneven, None)
    assert weights is not None
    assert weights[LABELS[1]] > 3 * weights[LABELS[0]]
    assert 90 * weights[LABELS[0]] + 10 * weights[LABELS[1]] == pytest.approx(100)
    assert label_weights(uneven, False) is None
    assert label_weights(rows(0, 0, 1), True) is not None
    assert label_weights(rows(0, 0, 0), True) is None


def test_no_row_weighs_more_than_four_times_the_mean_before_scaling() -> None:
    weights = label_weights(rows(*[0] * 80, 1, 1, 2, 2), None)
    assert weights is not None
    # As docs/learning.md says.
    assert weights[LABELS[1]] / weights[LABELS[0]] == pytest.approx(4 / (84 / 3 / 80), rel=1e-9)
    assert round(weights[LABELS[1]] / weights[LABELS[0]]) == 11


def test_what_rows_weigh_already_is_counted() -> None:
    uneven = rows(*[0] * 90, *[1] * 10)
    assert label_weights(uneven, None, [1 / 9] * 90 + [1.0] * 10) is None


def test_confirmations_count_as_much_as_corrections() -> None:
    weights = review_weights(reviews(50, 10), None)
    assert weights is not None
    assert sum(weights[:50]) == pytest.approx(sum(weights[50:])) == pytest.approx(30)
    assert len(set(weights)) == 2


def test_reviews_as_they_come_in_use_are_left_as_they_are() -> None:
    # A model that is right on every third pair or more.
    assert review_weights(reviews(20, 10), None) is None
    assert review_weights(reviews(21, 10), None) is not None
    assert review_weights(reviews(20, 10), True) is not None
    assert review_weights(reviews(50, 10), False) is None


@pytest.mark.parametrize("found", [reviews(50, 0), reviews(0, 50), rows(0, 1, 2), []])
def test_without_both_kinds_nothing_is_weighed(found: list[Sample]) -> None:
    assert review_weights(found, True) is None


def test_a_handful_of_confirmations_does_not_decide_everything() -> None:
    weights = review_weights(reviews(198, 2), None)
    assert weights is not None
    assert weights[-1] == pytest.approx(8 * weights[0])
    assert sum(weights) == pytest.approx(200)


def test_rows_of_which_nobody_said_anything_weigh_one() -> None:
    weights = review_weights([*reviews(50, 10), *rows(0, 1)], None)
    assert weights is not None
    assert weights[-2:] == [1.0, 1.0]


def test_both_kinds_of_weights_multiply() -> None:
    found = [*reviews(50, 10), *rows(1, 1)]
    weights = row_weights(found, TrainingConfig(balance_labels=True, balance_reviews=True))
    assert weights is not None
    assert sum(weights) == pytest.approx(62)
    # Confirmations against corrections of the same label as before, and the rare label above both.
    assert weights[55] / weights[0] == pytest.approx(5)
    assert weights[60] > weights[55]
    assert row_weights(found, TrainingConfig(balance_labels=False, balance_reviews=False)) is None
