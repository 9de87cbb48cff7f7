from __future__ import annotations

import math

import numpy as np
import pytest
from lyra_adapters_server.registry.comparison import Comparison, beyond_chance, compare, mcnemar
from lyra_adapters_server.types import LABELS, Sample

SURE = {0: (0.9, 0.05, 0.05), 1: (0.05, 0.9, 0.05), 2: (0.05, 0.05, 0.9)}


def samples(labels: list[int], groups: list[str] | None = None) -> list[Sample]:
    return [
        Sample(
            id=str(index),
            premise=f"p{index}",
            hypothesis="h",
            correct_label=LABELS[label],
            group=groups[index] if groups else "",
        )
        for index, label in enumerate(labels)
    ]


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 0), (0, 6), (12, 4), (9, 9), (30, 14)])
def test_mcnemar_is_the_sum_of_the_tails_of_a_fair_coin(gained: int, lost: int) -> None:
    changed = gained + lost
    tail = sum(math.comb(changed, k) for k in range(min(gained, lost) + 1)) / 2**changed
    assert mcnemar(gained, lost) == pytest.approx(min(1.0, 2 * tail))


def test_differences_are_those_of_the_rows() -> None:
    rows = samples([0, 1, 2, 0, 1, 2])
    champion = [SURE[0]] * 6
    challenger = [SURE[0], SURE[1], SURE[2], SURE[1], SURE[1], SURE[0]]
    found = compare(rows, champion, challenger)
    assert (found.rows, found.gained, found.lost) == (6, 3, 1)
    assert (found.champion_accuracy, found.challenger_accuracy) == (pytest.approx(2 / 6), pytest.approx(4 / 6))
    assert found.accuracy.value == pytest.approx(2 / 6)
    right, wrong = 0.1**2 + 2 * 0.05**2, 0.95**2 + 0.9**2 + 0.05**2
    assert found.brier.value == pytest.approx((right - wrong) * 2 / 6)
    assert found.accuracy.low < found.accuracy.value < found.accuracy.high
    assert found.brier.low <= found.brier.value <= found.brier.high


def test_weights_count_rows_as_they_occur() -> None:
    rows = samples([0, 0, 0, 0])
    champion, challenger = [SURE[0], SURE[1], SURE[1], SURE[1]], [SURE[1], SURE[0], SURE[0], SURE[0]]
    even = compare(rows, champion, challenger)
    weighted = compare(rows, champion, challenger, [3.0, 1 / 3, 1 / 3, 1 / 3])
    assert even.accuracy.value == pytest.approx(0.5)
    assert weighted.accuracy.value == pytest.approx(-0.5)
    assert weighted.champion_accuracy == pytest.approx(0.75)


def test_few_rows_that_agree_claim_no_certainty() -> None:
    few = compare(samples([0] * 5), [SURE[0]] * 5, [SURE[0]] * 5)
    many = compare(samples([0] * 500), [SURE[0]] * 500, [SURE[0]] * 500)
    assert few.accuracy.high - few.accuracy.low > 0.3
    assert many.accuracy.high - many.accuracy.low < 0.02


def test_rows_of_one_document_count_for_less() -> None:
    labels = [0] * 60
    champion = [SURE[0]] * 60
    challenger = [SURE[0] if index // 10 % 2 else SURE[1] for index in range(60)]
    apart = compare(samples(labels), champion, challenger)
    together = compare(samples(labels, [str(index // 10) for index in range(60)]), champion, challenger)
    assert together.accuracy.value == apart.accuracy.value
    assert together.accuracy.error > 2 * apart.accuracy.error
    assert together.brier.error > 2 * apart.brier.error


def test_the_same_rows_give_the_same_interval() -> None:
    rows = samples([0, 1, 2] * 20)
    champion, challenger = [SURE[0]] * 60, [SURE[index % 2] for index in range(60)]
    assert compare(rows, champion, challenger) == compare(rows, champion, challenger)


def test_four_times_the_rows_halve_the_error_and_rows_for_says_so() -> None:
    def found(times: int) -> Comparison:
        champion = [SURE[0]] * 60 * times
        challenger = [SURE[index % 2] for index in range(60)] * times
        return compare(samples([0, 1, 2] * 20 * times), champion, challenger)

    one, four = found(1), found(4)
    assert four.accuracy.error == pytest.approx(one.accuracy.error / 2, rel=0.1)
    assert one.accuracy.rows_for(0.1, 0.9) == pytest.approx(four.accuracy.rows_for(0.1, 0.9), rel=0.1)
    assert one.accuracy.rows_for(0.05, 0.9) == pytest.approx(4 * one.accuracy.rows_for(0.1, 0.9))
    assert one.accuracy.rows_for(-0.01, 0.9) == math.inf


def test_chance_is_the_share_of_permutations_that_do_as_well() -> None:
    random = np.random.default_rng(5)
    labels = random.integers(0, 3, 30).tolist()
    given = random.dirichlet([1, 1, 1], 30)
    given[range(30), labels] += 0.05
    found = beyond_chance(samples(labels), [tuple(row) for row in given / given.sum(axis=1, keepdims=True)])
    told = given / given.sum(axis=1, keepdims=True)
    sums = [told[range(30), random.permutation(labels)].sum() for _ in range(20_000)]
    exact = float(np.mean(np.array(sums) >= told[range(30), labels].sum()))
    assert 0.001 < exact < 0.2
    assert found.p_value == pytest.approx(exact, rel=0.15)


def test_probabilities_that_are_alike_for_all_rows_are_chance() -> None:
    found = beyond_chance(samples([0, 1, 2] * 10), [(0.5, 0.3, 0.2)] * 30)
    assert found.p_value == pytest.approx(0.5)
    assert found.rows_for(0.001) == math.inf


def test_rows_of_one_document_count_for_less_against_chance() -> None:
    labels, told = [0, 1, 2] * 12, [SURE[0], SURE[1], SURE[0]] * 12
    alone = beyond_chance(samples(labels), told)
    together = beyond_chance(samples(labels, [f"d{label}" for label in labels]), told)
    assert together.z < alone.z
    assert alone.rows_for(0.001) < together.rows_for(0.001)


@pytest.mark.parametrize("documents", [1, 2, 3, 10, 60])
def test_few_documents_say_little(documents: int) -> None:
    labels = [0] * 60
    random = np.random.default_rng(1)
    challenger = [tuple(row) for row in random.dirichlet([3, 1, 1], 60)]
    rows = samples(labels, [str(index % documents) for index in range(60)])
    found = compare(rows, [SURE[0]] * 60, challenger)
    alone = compare(samples(labels), [SURE[0]] * 60, challenger)
    if documents == 1:
        assert (found.brier.low, found.brier.high, found.accuracy.low, found.accuracy.high) == (-2, 2, -1, 1)
        assert found.brier.upper(0.9) == math.inf
    elif documents < 10:
        assert found.brier.upper(0.9) - found.brier.value > 1.3 * found.brier.error
    else:
        assert found.brier.high - found.brier.low < 2 * (alone.brier.high - alone.brier.low)


def test_intervals_of_few_documents_hold_the_truth_as_often_as_they_claim() -> None:
    """Rows of one document err alike, and there is no difference between the models."""
    random = np.random.default_rng(2)
    for documents in (2, 3, 5, 10):
        rows = samples([0] * documents * 4, [str(index // 4) for index in range(documents * 4)])
        missed = 0
        for _ in range(300):
            shift = np.repeat(random.normal(0, 0.1, documents), 4) + random.normal(0, 0.03, documents * 4)
            before = [(0.5, 0.3, 0.2)] * len(rows)
            after = [(0.5 + move, 0.3 - move / 2, 0.2 - move / 2) for move in shift]
            curvature = float(np.mean([(-0.5) ** 2 * 0 + 1.5 * move**2 for move in shift]))
            brier = compare(rows, before, after).brier
            missed += not brier.low - curvature <= 0 <= brier.high + curvature
        assert missed <= 0.08 * 300, documents
