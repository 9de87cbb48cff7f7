from __future__ import annotations

import random
from collections import Counter

import pytest
from lyra_adapters_server.feedback.inner import inner_folds
from lyra_adapters_server.feedback.split import clusters, keys_of, split
from lyra_adapters_server.types import LABELS, Sample, TrainingConfig


def sample(number: int, group: str = "", premise: str = "", hypothesis: str = "") -> Sample:
    return Sample(
        id=str(number),
        premise=premise or f"premise {number}",
        hypothesis=hypothesis or f"hypothesis {number}",
        correct_label=LABELS[number % 3],
        group=group,
    )


def documents(count: int, rows: int = 3, start: int = 0) -> list[Sample]:
    return [sample(d * rows + r, f"doc-{d}") for d in range(start, start + count) for r in range(rows)]


def test_no_group_stands_on_both_sides_and_the_share_is_kept() -> None:
    rows = documents(60)
    divided = split(rows, 0.2, "a", {})
    assert not {r.group for r in divided.training} & {r.group for r in divided.held_out}
    assert len(divided.held_out) == pytest.approx(0.2 * len(rows), abs=3)
    counts = Counter(r.correct_label for r in divided.held_out)
    assert max(counts.values()) - min(counts.values()) <= 2


def test_same_rows_fall_the_same_way_in_any_order() -> None:
    rows = documents(40)
    shuffled = rows[:]
    random.Random(1).shuffle(shuffled)
    first, second = split(rows, 0.2, "a", {}), split(shuffled, 0.2, "a", {})
    assert {r.id for r in first.held_out} == {r.id for r in second.held_out}
    assert {r.id for r in first.held_out} != {r.id for r in split(rows, 0.2, "b", {}).held_out}


def test_held_out_stays_held_out_as_rows_come_and_fractions_change() -> None:
    first = split(documents(30), 0.2, "a", {})
    held = {r.group for r in first.held_out}
    more = split(documents(90), 0.05, "a", first.sides)
    assert held <= {r.group for r in more.held_out}
    none = split(documents(30), 0.0, "a", first.sides)
    assert held == {r.group for r in none.held_out}


def test_a_group_that_was_trained_on_is_never_held_out() -> None:
    first = split(documents(30), 0.0, "a", {})
    assert not first.held_out
    later = split(documents(60), 0.5, "a", first.sides)
    assert not {f"doc-{d}" for d in range(30)} & {r.group for r in later.held_out}
    assert later.held_out


def test_rows_without_a_group_stay_with_their_premise_and_their_mirror_image() -> None:
    rows = [
        sample(0, premise="Same  text", hypothesis="a"),
        sample(1, premise="same text", hypothesis="b"),
        sample(2, premise="b", hypothesis="SAME TEXT"),
        sample(3, premise="other", hypothesis="c"),
    ]
    assert [cluster.rows for cluster in clusters(rows)] == [(0, 1, 2), (3,)]


def test_one_document_cannot_be_divided() -> None:
    assert not split(documents(1, rows=9), 0.2, "a", {}).held_out


@pytest.mark.parametrize(("one", "other"), [(" ", ", "), (" ", " - "), (" is", "is"), ("colour", "color")])
def test_rows_that_are_nearly_the_same_are_kept_and_stand_on_one_side(one: str, other: str) -> None:
    rows = [sample(number, premise=f"The colour {number} is old", hypothesis=f"claim {number}") for number in range(60)]
    again = [
        row.model_copy(update={"id": f"again-{row.id}", "premise": row.premise.replace(one, other, 1)}) for row in rows
    ]
    divided = split([*rows, *again], 0.2, "a", {})
    assert len(divided.training) + len(divided.held_out) == 120
    assert len(divided.held_out) == pytest.approx(24, abs=2)
    assert {f"again-{row.id}" for row in divided.held_out if row in rows} == {
        row.id for row in divided.held_out if row not in rows
    }
    training = divided.training
    for fold in inner_folds(training, TrainingConfig(folds=3)):
        inside = {training[row].id.removeprefix("again-") for row in fold}
        assert len(fold) == 2 * len(inside)


def test_a_row_keeps_to_the_side_of_what_was_merged_into_it() -> None:
    rows = [sample(number, premise=f"The nap {number} was long") for number in range(60)]
    first = split(rows, 0.2, "a", {})
    held = {row.id for row in first.held_out}
    # As a registry has them that is older than the keys of letters.
    known = {key: side for key, side in first.sides.items() if key in {k for row in rows for k in keys_of(row)[:2]}}
    again = [row.model_copy(update={"premise": row.premise.replace("nap", "nap,")}) for row in rows]
    later = split(again, 0.5, "a", known, merged=rows)
    assert {row.id for row in later.held_out} == held
    assert len(later.training) == 60 - len(held)
    # And under the keys of both, so that either is found again alone.
    assert {row.id for row in split(rows, 0.5, "a", later.sides).held_out} == held
    assert {row.id for row in split(again, 0.5, "a", first.sides).held_out} == held
