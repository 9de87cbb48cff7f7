from __future__ import annotations

import pytest
from lyra_adapters_server.errors import Refusal
from lyra_adapters_server.feedback.due import Trigger, check_due, count
from lyra_adapters_server.feedback.merge import merge
from lyra_adapters_server.types import Label, Sample


def row(premise: str, label: Label = Label.SUPPORTS, original: Label | None = None, id: str = "") -> Sample:
    return Sample(id=id, premise=premise, hypothesis="h", correct_label=label, original_label=original)


def test_same_pair_and_label_becomes_one_row() -> None:
    merged = merge([row("A  b", id="1"), row("a B", id="2"), row("c")], keep_newest=False)
    assert [sample.id for sample in merged.samples][:1] == ["2"]
    assert (len(merged.samples), merged.merged_duplicates, merged.dropped_conflicts) == (2, 1, 0)
    assert merged.samples[1].id  # an empty id becomes a digest


def test_contradiction_names_both_positions() -> None:
    rows = [row("x"), row("a"), row("a", Label.REFUTES)]
    with pytest.raises(Refusal) as refused:
        merge(rows, keep_newest=False)
    assert refused.value.violations[0].field == "samples[2].correct_label"
    assert "samples[1]" in refused.value.violations[0].description
    kept = merge(rows, keep_newest=True)
    assert [sample.correct_label for sample in kept.samples] == [Label.SUPPORTS, Label.REFUTES]
    assert kept.dropped_conflicts == 1


def test_contradictions_between_nearly_the_same_pairs_are_found_too() -> None:
    rows = [row("Short naps help memory."), row("Short naps help memory"), row("Short naps help memory", Label.REFUTES)]
    with pytest.raises(Refusal) as refused:
        merge(rows, keep_newest=False)
    assert [one.field for one in refused.value.violations] == [
        f"samples[{index}].correct_label" for index in (2, 0, 2, 1)
    ]
    assert "nearly the same pair" in refused.value.violations[0].description
    assert "the same pair" in refused.value.violations[2].description
    kept = merge(rows, keep_newest=True)
    assert [sample.correct_label for sample in kept.samples] == [Label.REFUTES]
    assert (kept.merged_duplicates, kept.dropped_conflicts) == (0, 2)
    # Of one label they are rows of their own.
    assert len(merge(rows[:2], keep_newest=False).samples) == 2


def test_training_is_due_with_enough_rows_and_enough_errors() -> None:
    wrong, right = row("w", Label.SUPPORTS, Label.NEUTRAL), row("r", Label.SUPPORTS, Label.SUPPORTS)
    check_due([wrong] * 5 + [right] * 45, Trigger(), new_domain=False)
    with pytest.raises(Refusal, match="NOT_ENOUGH_SAMPLES") as few:
        check_due([wrong] * 49, Trigger(), new_domain=False)
    assert few.value.metadata == {"have": "49", "need": "50"}
    with pytest.raises(Refusal, match="ERROR_RATE_TOO_LOW") as low:
        check_due([wrong] * 4 + [right] * 46, Trigger(), new_domain=False)
    assert low.value.metadata == {"have": "0.0800", "need": "0.1"}
    # Whichever is missing, each condition is named.
    assert "have 49 of 50 samples (1 missing); 100.0% of 49 reviewed predictions were wrong" in few.value.message
    assert "have 50 of 50 samples; 8.0% of 50 reviewed predictions were wrong, 10.0% are needed" in low.value.message
    # Two of 52 more would be 6 of 52: one correction more leaves 5 of 51, which is less than a tenth.
    assert "10.0% are needed (2 corrections missing)" in low.value.message
    with pytest.raises(Refusal, match=r"10.0% of 1,001 reviewed .* 10.0% are needed \(1 correction missing\)"):
        check_due([wrong] * 100 + [right] * 901, Trigger(), new_domain=False)
    check_due([wrong] * 101 + [right] * 901, Trigger(), new_domain=False)
    check_due([right], Trigger(force=True), new_domain=False)
    check_due([right], Trigger(), new_domain=True)


def test_error_rate_is_not_asked_where_no_row_has_an_original_label() -> None:
    assert count([row("a")]).error_rate is None
    assert count([row("a"), row("b", Label.SUPPORTS, Label.NEUTRAL)]).error_rate == 1.0
    check_due([row("a")] * 50, Trigger(), new_domain=False)
