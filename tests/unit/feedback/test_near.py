"""Near duplicates: what is the same text typed or extracted again, and what only looks like it."""

from __future__ import annotations

import time

import pytest
from lyra_adapters_server.feedback.merge import content_digest
from lyra_adapters_server.feedback.near import merge_near_duplicates
from lyra_adapters_server.types import Label, Sample


def pair(premise: str, hypothesis: str = "Naps help memory.", label: Label = Label.SUPPORTS) -> Sample:
    return Sample(id="", premise=premise, hypothesis=hypothesis, correct_label=label)


def merged(one: Sample, other: Sample) -> int:
    return len(merge_near_duplicates([one, other]).merged)


TEXT = "In a randomised trial with 42 students a nap of 20 minutes improved the recall of word lists by 11 percent."


def test_texts_that_were_typed_again_are_merged_into_the_last() -> None:
    first, again = pair(TEXT), pair(TEXT.replace("randomised", "randomized"), "Naps help memory")
    found = merge_near_duplicates([first, pair("Something else altogether."), again])
    assert found.merged == [first]
    assert found.samples[-1] == again
    assert len(found.samples) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Naps help memory, a lot.", "Naps  help Memory a lot"),
        ("Naps (short ones) help; so they say!", "Naps short ones help, so they say"),
        ("“Naps” don’t hurt", "'naps' don't hurt."),
        ("A long-term effect on well-being", "A long term effect on well–being"),
        ("It rose by 11 percent in 2020.", "It rose by 11 percent in 2020"),
        ("Behavioural analysis of tumours: haemoglobin", "behavioral analysis of tumors, hemoglobin"),
        ("Diarrhoea and hypoglycaemia were analysed", "Diarrhea and hypoglycemia were analyzed"),
        ("Ｎａｐｓ help", "Naps help"),
        ("昼寝は、記憶を助ける。", "昼寝は、記憶を助ける"),
    ],
)
def test_punctuation_hyphens_and_spelling_are_left_aside(one: str, other: str) -> None:
    assert merged(pair(one), pair(other)) == 1
    assert merged(pair(TEXT, one), pair(TEXT, other)) == 1


@pytest.mark.parametrize(
    "other",
    [
        pair(TEXT.replace("42", "43")),
        pair(TEXT.replace("improved", "never improved")),
        pair(TEXT.replace("improved", "worsened")),
        pair(TEXT.replace("a randomised", "an unrandomised")),
        pair("これは眠りの質を高める。", "昼寝は記憶を助ける。"),
        pair(TEXT, hypothesis="Naps do not help memory."),
        pair("In a trial with 42 students no word of the 20 was recalled 11 percent better."),
    ],
)
def test_what_says_something_else_is_kept(other: Sample) -> None:
    assert merged(pair(TEXT), other) == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.5 mg", "15 mg"),
        ("p < 0.05", "p > 0.05"),
        ("hypertension", "hypotension"),
        ("-5", "5"),
        ("\N{MINUS SIGN}5", "5"),
        ("hyperglycemia", "hypoglycemia"),
        ("hyperglycaemia", "hypoglycemia"),
        ("intracellular", "intercellular"),
        ("1/2", "12"),
        ("1-3 days", "13 days"),
        ("1–3 days", "1 3 days"),
        ("x >= 3", "x <= 3"),
        ("x ≥ 3", "x ≤ 3"),
        ("A → B", "A ← B"),
        ("a typical", "atypical"),
        ("a-typical", "atypical"),
        ("a = b", "a ≠ b"),
        ("casual", "causal"),
        ("re-signed", "resigned"),
        ("we're", "were"),
        ("memory - recall", "memory recall"),
        ("No, naps were long", "No naps were long"),
        ("f(x) falls", "f x falls"),
        ("5! ways", "5 ways"),
        ("cohort (5) died", "cohort 5 died"),
        ("in group 5. Naps helped", "in group 5 naps helped"),
        ("10⁵ cells", "105 cells"),
        ("CO₂ levels", "CO2 levels"),
        ("2½ hours", "21/2 hours"),
        ("👍", "👎"),
    ],
)
def test_a_sign_a_number_or_a_prefix_more_is_another_pair(one: str, other: str) -> None:
    for text in ("{}", "In the trial {} was seen", "It was seen with {}."):
        assert merged(pair(text.format(one)), pair(text.format(other))) == 0
        assert merged(pair(TEXT, text.format(one)), pair(TEXT, text.format(other))) == 0


def test_raised_lowered_and_broken_numbers_are_not_plain_ones() -> None:
    for one, other in (("10⁵ cells", "105 cells"), ("H₂O", "H2O"), ("1½ hours", "11⁄2 hours")):
        assert content_digest(pair(one)) != content_digest(pair(other))
        assert content_digest(pair(f" {one.upper()}")) == content_digest(pair(one))
    for one, other in (
        ("Ｎａｐｓ　１２", "naps 12"),
        ("ﬁne", "fine"),
        ("ﾈﾑﾘ", "ネムリ"),
        ("e\u0301", "é"),
        ("10⁵ ＣＭ", "10⁵ cm"),
    ):
        assert content_digest(pair(one)) == content_digest(pair(other))


def test_of_other_labels_the_last_counts_and_the_others_are_told() -> None:
    first, second = pair(TEXT), pair(TEXT.removesuffix("."), label=Label.REFUTES)
    last = pair(TEXT.replace("randomised", "randomized"))
    found = merge_near_duplicates([first, second, last])
    assert (found.samples, found.merged, found.conflicts) == ([last], [first, second], 1)
    assert merge_near_duplicates([first, last]).conflicts == 0


def test_digests_that_are_in_registries_stay() -> None:
    assert content_digest(pair("Ａ  nap of 20\u00a0Minutes, ﬁne…")) == "089c07f8e2e1f7424a18e6e19e0654b5"


def test_twenty_thousand_rows_take_a_moment() -> None:
    rows = [pair(f"{TEXT} {number}", "Naps help.") for number in range(10_000)]
    begun = time.monotonic()
    found = merge_near_duplicates(
        [*rows, *(pair(row.premise.replace("In a", "In, a"), row.hypothesis) for row in rows)]
    )
    assert len(found.merged) == 10_000
    assert time.monotonic() - begun < 20
