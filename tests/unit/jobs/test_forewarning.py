"""What is said of the rows when a training begins."""

from __future__ import annotations

import pytest
from lyra_adapters_server.feedback.split import split
from lyra_adapters_server.jobs.forewarning import forewarnings
from lyra_adapters_server.trainer.spec import TrainSpec
from lyra_adapters_server.types import LABELS, AdapterRef, LoraConfig, Sample, TrainingConfig


def rows(*counts: int) -> tuple[Sample, ...]:
    return tuple(
        Sample(id=f"{label}{n}", premise=f"{label} {n}", hypothesis="h", correct_label=label)
        for label, count in zip(LABELS, counts, strict=True)
        for n in range(count)
    )


def warned(
    training: tuple[Sample, ...], held_out: tuple[Sample, ...] = rows(1, 1, 1), **changes: object
) -> dict[str, str]:
    replayed = changes.pop("replay_samples", ())
    spec = TrainSpec(
        job_id="j",
        base_alias="tiny",
        training_samples=training,
        validation_samples=held_out,
        lora=LoraConfig(),
        training=TrainingConfig.model_validate(changes),
        replay_samples=replayed,
        champion=AdapterRef(name="base", base_alias="tiny"),
        output_dir="",
        progress_interval_s=1.0,
    )
    return {one["reason"]: one["message"] for one in forewarnings(spec)}


def test_rows_as_they_should_be_need_no_word() -> None:
    assert warned(rows(20, 10, 10)) == {}


def test_labels_far_from_balance_are_told_with_counts_and_weights() -> None:
    found = warned(rows(80, 2, 2))
    assert set(found) == {"LABELS_UNBALANCED"}
    assert "80 SUPPORTS, 2 REFUTES, 2 NEUTRAL" in found["LABELS_UNBALANCED"]
    assert "0.67 SUPPORTS, 7.6 REFUTES, 7.6 NEUTRAL" in found["LABELS_UNBALANCED"]
    off = warned(rows(80, 2, 2), balance_labels=False)["LABELS_UNBALANCED"]
    assert "balance_labels is off" in off


def test_labels_that_are_missing_are_named() -> None:
    found = warned(rows(60, 0, 0))
    assert set(found) == {"LABELS_MISSING"}
    assert "No row to train on is REFUTES or NEUTRAL" in found["LABELS_MISSING"]
    assert set(warned(rows(60, 0, 2))) == {"LABELS_MISSING", "LABELS_UNBALANCED"}


def test_general_rows_count_among_those_that_are_trained_on() -> None:
    found = warned(rows(60, 0, 0), replay_samples=rows(7, 7, 6))
    assert set(found) == {"LABELS_UNBALANCED"}
    assert (
        "general rows included, are far from balance: 67 SUPPORTS, 7 REFUTES, 6 NEUTRAL" in found["LABELS_UNBALANCED"]
    )


@pytest.mark.parametrize(("fraction", "documents"), [(0.2, 3), (0.1, 6), (0.25, 3), (0.5, 2)])
def test_it_takes_as_many_documents_as_are_said_to_hold_one_out(fraction: float, documents: int) -> None:
    said = warned(rows(2, 2, 2), (), validation_fraction=fraction)["NOTHING_HELD_OUT"]
    assert f"about {documents} of the same label" in said
    assert split(rows(documents, 0, 0), fraction, "a", {}).held_out
    assert not split(rows(documents - 1, 0, 0), fraction, "a", {}).held_out


def test_a_fraction_of_0_is_named_as_the_reason() -> None:
    said = warned(rows(2, 2, 2), (), validation_fraction=0)["NOTHING_HELD_OUT"]
    assert said.endswith("with a validation_fraction above 0.")
