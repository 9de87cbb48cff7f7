from __future__ import annotations

from collections import Counter

import pytest
from lyra_adapters_server.errors import Refusal
from lyra_adapters_server.feedback.inner import inner_folds
from lyra_adapters_server.jobs.settling import settle_training
from lyra_adapters_server.types import LABELS, Candidate, Sample, TrainingConfig


def rows(count: int, documents: int) -> list[Sample]:
    return [
        Sample(id=str(n), premise=f"p{n}", hypothesis=f"h{n}", correct_label=LABELS[n % 3], group=f"d{n % documents}")
        for n in range(count)
    ]


@pytest.mark.parametrize(("count", "folds"), [(60, 3), (200, 1), (60, 5)])
def test_documents_stay_together_and_labels_are_spread(count: int, folds: int) -> None:
    samples = rows(count, count // 2)
    found = inner_folds(samples, TrainingConfig(folds=folds))
    assert len(found) == folds
    assert found == inner_folds(samples, TrainingConfig(folds=folds))
    taken = [row for fold in found for row in fold]
    assert len(set(taken)) == len(taken)
    if folds > 1:
        assert sorted(taken) == list(range(count))
    else:
        assert len(taken) == pytest.approx(0.15 * count, abs=4)
    for fold in found:
        inside = {samples[row].group for row in fold}
        assert inside.isdisjoint({samples[row].group for row in set(range(count)) - set(fold)})
        counts = Counter(samples[row].correct_label for row in fold)
        assert max(counts.values()) - min(counts[label] for label in LABELS) <= 4


@pytest.mark.parametrize("folds", [2, 3, 5])
@pytest.mark.parametrize("count", [5, 6, 12, 31, 90])
def test_folds_are_as_even_as_documents_allow(count: int, folds: int) -> None:
    found = inner_folds(rows(count, count), TrainingConfig(folds=folds))
    sizes = [len(fold) for fold in found]
    assert (len(sizes), sum(sizes)) == (folds, count)
    assert max(sizes) - min(sizes) <= 1


def test_small_documents_even_out_what_large_ones_leave() -> None:
    groups = ["large"] * 10 + ["middle"] * 7 + [f"small {n}" for n in range(13)]
    samples = [row.model_copy(update={"group": group}) for row, group in zip(rows(30, 30), groups, strict=True)]
    assert {len(fold) for fold in inner_folds(samples, TrainingConfig(folds=3))} <= {9, 10, 11}


@pytest.mark.parametrize("documents", [2, 3])
def test_documents_of_one_label_each_leave_rows_to_train_on(documents: int) -> None:
    samples = [
        row.model_copy(update={"correct_label": LABELS[n % documents]})
        for n, row in enumerate(rows(30 * documents, documents))
    ]
    (inner,) = inner_folds(samples, TrainingConfig(folds=1))
    assert len(inner) == 30


def test_no_more_inner_rows_than_help() -> None:
    (fold,) = inner_folds(rows(4000, 2000), TrainingConfig())
    assert len(fold) == pytest.approx(200, abs=5)


def test_rows_that_cannot_be_divided_choose_nothing() -> None:
    assert inner_folds(rows(50, 1), TrainingConfig()) == ()
    assert inner_folds(rows(50, 1), TrainingConfig(folds=3)) == ()
    assert inner_folds(rows(200, 200), TrainingConfig(inner_fraction=0)) == ()
    assert inner_folds(rows(50, 50), TrainingConfig(inner_fraction=0)) == ()


@pytest.mark.parametrize(("documents", "folds"), [(3, 3), (2, 2), (1, 1), (50, 10)])
def test_there_are_no_more_folds_than_documents_and_the_settings_say_how_many(documents: int, folds: int) -> None:
    samples = rows(50, documents)
    settled = settle_training(TrainingConfig(folds=10), samples, recorded=False, continued=False)
    assert settled.folds == folds
    assert len(inner_folds(samples, settled)) == (folds if documents > 1 else 0)


def test_settings_that_depend_on_the_rows_are_filled_in() -> None:
    few = settle_training(TrainingConfig(), rows(60, 60), recorded=True, continued=False)
    assert (few.folds, few.balance_labels, few.replay_general_rows) == (3, False, True)
    confirmed = [row.model_copy(update={"original_label": row.correct_label}) for row in rows(60, 60)]
    assert not settle_training(TrainingConfig(), confirmed, recorded=True, continued=False).replay_general_rows
    one = [*rows(119, 119), confirmed[0]]
    assert settle_training(TrainingConfig(), one, recorded=True, continued=False).replay_general_rows
    sent = settle_training(TrainingConfig(), rows(200, 60), recorded=False, continued=False)
    assert (sent.folds, sent.replay_general_rows) == (1, False)
    asked = settle_training(
        TrainingConfig(folds=4, replay_general_rows=True), rows(200, 60), recorded=False, continued=False
    )
    assert (asked.folds, asked.replay_general_rows) == (4, True)
    uneven = [row.model_copy(update={"correct_label": LABELS[int(n % 9 == 0)]}) for n, row in enumerate(rows(90, 90))]
    assert settle_training(TrainingConfig(), uneven, recorded=False, continued=False).balance_labels


def test_candidates_that_nothing_compares_are_refused() -> None:
    two = TrainingConfig(candidates=(Candidate(epochs=1), Candidate(epochs=2)))
    with pytest.raises(Refusal, match=r"training.candidates: .* send rows of more documents"):
        settle_training(two, rows(120, 1), recorded=False, continued=False)
    assert settle_training(two, rows(120, 2), recorded=False, continued=False).candidates
    one = TrainingConfig(candidates=two.candidates[:1])
    assert settle_training(one, rows(120, 1), recorded=False, continued=False).candidates


@pytest.mark.parametrize("fresh", [0, 1, 2, 40, 120])
def test_documents_that_what_is_gone_on_from_was_trained_on_choose_nothing(fresh: int) -> None:
    samples = rows(300, 150)
    # One row of a document is enough.
    seen = frozenset(range(150 - fresh))
    settled = settle_training(TrainingConfig(), samples, recorded=True, continued=True, seen=seen)
    found = inner_folds(samples, settled, seen)
    chosen = {row for fold in found for row in fold}
    able = {row for row in range(300) if row % 150 >= 150 - fresh}
    if fresh < 2:
        assert found == ()
    elif 2 * fresh < 100:
        assert (len(found), chosen) == (min(3, fresh), able)
    else:
        assert len(found) == 1
        assert chosen < able
        assert len(chosen) == pytest.approx(0.15 * len(able), abs=4)


def test_candidates_are_refused_where_what_is_gone_on_from_has_seen_all() -> None:
    two = TrainingConfig(candidates=(Candidate(epochs=1), Candidate(epochs=2)))
    with pytest.raises(Refusal, match="neither they nor what they continue from was trained on"):
        settle_training(two, rows(120, 60), recorded=True, continued=True, seen=range(59))
    assert settle_training(two, rows(120, 60), recorded=True, continued=True, seen=range(58)).folds == 2


def test_what_is_gone_on_from_and_who_was_wrong_decide_on_distillation_and_weights() -> None:
    sent = rows(60, 60)
    new = settle_training(TrainingConfig(), sent, recorded=False, continued=False)
    assert (new.distillation, new.balance_reviews) == (0, False)
    assert settle_training(TrainingConfig(), sent, recorded=False, continued=True).distillation == 1
    asked = TrainingConfig(distillation=0, balance_reviews=False)
    reviewed = [
        row.model_copy(update={"original_label": row.correct_label if n % 6 == 0 else LABELS[2]})
        for n, row in enumerate(row.model_copy(update={"correct_label": LABELS[0]}) for row in sent)
    ]
    settled = settle_training(TrainingConfig(), reviewed, recorded=False, continued=True)
    assert (settled.distillation, settled.balance_reviews) == (1, True)
    settled = settle_training(asked, reviewed, recorded=False, continued=True)
    assert (settled.distillation, settled.balance_reviews) == (0, False)
