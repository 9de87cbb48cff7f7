from __future__ import annotations

import random
import re

import pytest
from lyra_adapters_server.registry.anchor import anchor_positions, review_error_rate, review_weights
from lyra_adapters_server.registry.gate import Evidence, Judgement, Outcome, judge
from lyra_adapters_server.types import LABELS, Label, Sample

NONE = Evidence([], [], [])


def row(number: int, label: Label, original: Label | None, name: str = "r") -> Sample:
    return Sample(
        id=f"{name}{number}", premise=f"{name} {number}", hypothesis="h", correct_label=label, original_label=original
    )


def answers(samples: list[Sample], right: float, seed: int, sure: float = 0.7) -> list[tuple[float, float, float]]:
    """Probabilities of a model that is right on a share of the rows."""
    random_ = random.Random(seed)
    found = []
    for sample in samples:
        truth = LABELS.index(sample.correct_label)
        said = truth if random_.random() < right else random_.choice([i for i in range(3) if i != truth])
        found.append(tuple(sure if index == said else (1 - sure) / 2 for index in range(3)))
    return found  # type: ignore[return-value]


def plain(count: int, name: str = "r") -> list[Sample]:
    """Rows of which no prediction is known."""
    return [row(number, LABELS[number % 3], None, name) for number in range(count)]


def corrections(count: int) -> list[Sample]:
    return [row(number, LABELS[number % 3], LABELS[(number + 1) % 3], "c") for number in range(count)]


def evidence(samples: list[Sample], before: float, after: float, *, same: bool = False) -> Evidence:
    return Evidence(samples, answers(samples, before, 1), answers(samples, after, 1 if same else 2))


def general(before: float = 0.6, after: float = 0.6, *, same: bool = True) -> Evidence:
    return evidence(plain(108, "g"), before, after, same=same)


@pytest.mark.parametrize(
    ("before", "after", "same", "outcome"),
    [
        (0.5, 0.7, False, Outcome.BETTER),
        (0.6, 0.6, True, Outcome.NOT_WORSE),
        (0.7, 0.5, False, Outcome.WORSE),
        (0.9, 0.34, False, Outcome.WORSE),
    ],
)
def test_rows_that_no_error_chose_decide_alone(before: float, after: float, same: bool, outcome: Outcome) -> None:
    judgement = judge(evidence(plain(200), before, after, same=same), NONE)
    assert judgement.outcome == outcome, judgement.explanation
    assert not judgement.general
    assert judgement.anchor == judgement.held_out


def test_twenty_rows_decide_little_and_it_is_said_how_many_would() -> None:
    judgement = judge(evidence(plain(20), 0.5, 0.55), general(0.6, 0.55, same=False), plain(100))
    assert judgement.outcome == Outcome.UNDECIDED
    assert judgement.more_reviews > 0
    assert f"{judgement.more_reviews:,}" in judgement.explanation


def test_about_as_many_more_reviews_as_it_says_would_decide() -> None:
    few = evidence(plain(45), 0.66, 0.6)
    judgement = judge(few, NONE, plain(225))
    assert judgement.outcome == Outcome.UNDECIDED
    assert judgement.more_reviews > 0

    def of_the_same_kind(times: float) -> Evidence:
        count = 45 + round(times * judgement.more_reviews / 5)
        return Evidence(
            plain(count),
            [few.champion[index % 45] for index in range(count)],
            [few.challenger[index % 45] for index in range(count)],
        )

    assert judge(of_the_same_kind(1.0), NONE).outcome != Outcome.UNDECIDED
    assert judge(of_the_same_kind(0.1), NONE).outcome == Outcome.UNDECIDED


def test_corrections_alone_never_make_a_challenger_better() -> None:
    # The champion is wrong on all of them, by construction; the challenger has most of them right.
    judgement = judge(evidence(corrections(80), 0.0, 0.9), general())
    assert judgement.outcome == Outcome.NOT_WORSE
    assert judgement.general
    assert judgement.learnt is not None
    assert (judgement.learnt.champion_right, judgement.learnt.shown) == (0, True)


def test_learnt_corrections_and_a_gain_elsewhere_are_better() -> None:
    judgement = judge(evidence(corrections(80), 0.0, 0.8), general(0.4, 0.7, same=False))
    assert judgement.outcome == Outcome.BETTER


def test_learnt_corrections_at_a_cost_elsewhere_are_worse() -> None:
    judgement = judge(evidence(corrections(80), 0.0, 0.9), general(0.8, 0.45, same=False))
    assert judgement.outcome == Outcome.WORSE


def test_corrections_hit_by_chance_are_not_learnt() -> None:
    # A third right, where the champion has none: what any other model would do.
    judgement = judge(evidence(corrections(80), 0.0, 0.35), general())
    assert judgement.outcome == Outcome.UNDECIDED
    assert "chance" in judgement.explanation


def test_corrections_beside_other_rows_do_not_count_as_use() -> None:
    mixed = plain(100) + corrections(60)
    assert anchor_positions(mixed) == list(range(100))
    # On the corrections it gains, by construction; on the others it loses.
    before = answers(mixed[:100], 0.8, 1) + answers(mixed[100:], 0.0, 1)
    after = answers(mixed[:100], 0.55, 2) + answers(mixed[100:], 0.5, 2)
    assert judge(Evidence(mixed, before, after), general()).outcome == Outcome.WORSE


def test_confirmations_in_proportion_make_reviews_the_anchor() -> None:
    confirmed = [row(number, LABELS[number % 3], LABELS[number % 3], "k") for number in range(40)]
    assert len(anchor_positions(confirmed + corrections(20))) == 60
    assert anchor_positions(confirmed + corrections(90)) == []
    assert anchor_positions(confirmed[:9] + corrections(9) + plain(22)) == []
    assert anchor_positions(plain(39)) == []


def test_weights_bring_corrections_to_their_share_of_all_reviews() -> None:
    confirmed = [row(number, Label.NEUTRAL, Label.NEUTRAL, "k") for number in range(10)]
    held_out = confirmed + corrections(30) + plain(5)
    weights = review_weights(held_out, 0.25)
    assert weights is not None
    assert sum(weights[10:40]) / sum(weights[:40]) == pytest.approx(0.25)
    assert weights[40:] == [1.0] * 5
    assert review_weights(corrections(30), 0.25) is None
    assert review_error_rate(corrections(5)) is None
    assert review_error_rate([*corrections(5), *confirmed]) == pytest.approx(1 / 3)


def test_undecided_without_rows_to_compare_on() -> None:
    assert judge(NONE, general()) == Judgement(
        Outcome.UNDECIDED,
        "No rows were held out, so the two could not be compared; with a validation_fraction above 0 some would be.",
    )
    some = judge(NONE, general(), plain(4), fraction=0.2)
    assert (some.outcome, some.more_reviews) == (Outcome.UNDECIDED, 200)
    assert "about 200 more reviews, of other documents, would decide" in some.explanation
    assert not Outcome.UNDECIDED.passes


def test_undecided_where_all_that_was_held_out_was_trained_on_and_it_is_said_what_would_decide() -> None:
    sent = plain(200)
    judgement = judge(NONE, general(), sent, excluded=40)
    assert (judgement.outcome, judgement.more_reviews) == (Outcome.UNDECIDED, 200)
    assert "trained on all 40 held-out reviews" in judgement.explanation
    # Of the further ones as many are held out as of these, whatever of these is left.
    some = judge(evidence(plain(4), 0.2, 0.6), general(), sent, excluded=36)
    assert (some.outcome, some.more_reviews) == (Outcome.UNDECIDED, 180)


@pytest.mark.parametrize(("count", "word"), [(0, "no"), (39, "too few")])
def test_undecided_with_hardly_any_general_rows(count: int, word: str) -> None:
    few = evidence(plain(count, "g"), 0.6, 0.6, same=True) if count else NONE
    judgement = judge(evidence(corrections(30), 0.0, 0.9), few, corrections(150))
    # Ten more rows would do, if half as many of all were confirmations as corrections.
    assert (judgement.outcome, judgement.more_reviews) == (Outcome.UNDECIDED, 80)
    assert f"there are {word} general rows that neither was trained on" in judgement.explanation
    assert "about 80 more reviews, 80 of them confirmations, would decide" in judgement.explanation
    unreviewed = judge(evidence(plain(30), 0.0, 0.9), few, plain(150))
    assert (unreviewed.outcome, unreviewed.more_reviews) == (Outcome.UNDECIDED, 50)
    assert "about 50 more reviews would decide" in unreviewed.explanation


def test_it_says_where_rows_are_weighted() -> None:
    confirmed = [row(number, Label.NEUTRAL, Label.NEUTRAL, "k") for number in range(30)]
    held_out = [*corrections(20), *confirmed]
    uneven = judge(evidence(held_out, 0.4, 0.6), general(), [*corrections(200), *confirmed, *confirmed])
    assert uneven.held_out is not None
    assert uneven.held_out.weighted
    assert "accuracy, weighted to the reviews' error rate, goes" in uneven.explanation
    plainly = judge(evidence(plain(50), 0.4, 0.6), general(), plain(250))
    assert plainly.held_out is not None
    assert not plainly.held_out.weighted
    assert "weighted" not in plainly.explanation


@pytest.mark.parametrize("documents", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 3, 10, 45])
def test_a_handful_of_documents_condemns_nothing(documents: int, rows: int) -> None:
    """A little less sure of the truth in every row, and no row more or less right."""
    held_out = [
        Sample(id=str(i), premise=f"p{i}", hypothesis="h", correct_label=LABELS[i % 3], group=str(i % documents))
        for i in range(rows)
    ]
    sure, shy = ([0.3, 0.4, 0.3], [0.2, 0.5, 0.3])
    found = [[tuple(side[(place - i) % 3] for place in range(3)) for i in range(rows)] for side in (sure, shy)]
    judgement = judge(Evidence(held_out, *found), general())  # type: ignore[arg-type]
    assert judgement.outcome == Outcome.UNDECIDED, judgement.explanation
    assert "of other documents" in judgement.explanation


def test_the_explanation_has_the_numbers() -> None:
    judgement = judge(evidence(plain(200), 0.5, 0.7), NONE)
    assert judgement.held_out is not None
    for number in (judgement.held_out.champion_accuracy, judgement.held_out.challenger_accuracy):
        assert f"{number:.3f}" in judgement.explanation
    assert re.search(r"\d+ rows gained, \d+ lost, p = ", judgement.explanation)


def blurred(found: Evidence, share: float) -> Evidence:
    """The challenger answers as before, but its probabilities are drawn towards a third each."""
    return Evidence(
        found.samples,
        found.champion,
        [(*(share * value + (1 - share) / 3 for value in row),) for row in found.challenger],  # type: ignore[misc]
    )


def test_fewer_right_with_a_brier_score_that_does_not_rise_is_neither_worse_nor_put_in_force() -> None:
    # The champion is too sure of itself, so that the challenger's honest doubt makes up for the rows it loses.
    samples = plain(200)
    sure = Evidence(samples, answers(samples, 0.55, 1, sure=0.98), answers(samples, 0.42, 2, sure=0.5))
    judgement = judge(sure, NONE)
    assert judgement.anchor is not None
    assert judgement.anchor.p_value < 0.05
    assert judgement.anchor.brier.value < 0
    assert judgement.outcome == Outcome.UNDECIDED, judgement.explanation


def test_a_challenger_that_is_as_good_but_knows_nothing_is_not_put_in_force() -> None:
    # A champion that guesses loses nothing to another one that guesses.
    judgement = judge(blurred(evidence(plain(300), 0.33, 0.36), 0.1), NONE)
    assert judgement.outcome == Outcome.UNDECIDED, judgement.explanation
    assert "could be chance" in judgement.explanation


def test_a_small_cost_is_told_from_none_with_two_hundred_rows() -> None:
    # Two trainings by one recipe: nine rows of ten alike.
    samples = plain(200)
    before = answers(samples, 0.55, 1)
    after = [*before[:180], *answers(samples, 0.55, 2)[180:]]
    assert judge(Evidence(samples, before, after), NONE).outcome == Outcome.NOT_WORSE
