"""What both models are judged on: nothing that one of them was trained on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from lyra_adapters_server.feedback.general import GeneralRows, shipped_rows
from lyra_adapters_server.feedback.merge import content_digest
from lyra_adapters_server.jobs.judging import Judging
from lyra_adapters_server.jobs.prepared import Prepared, RowScores
from lyra_adapters_server.trainer.events import Scored
from lyra_adapters_server.trainer.spec import ScoreSpec, TrainSpec
from lyra_adapters_server.types import LABELS, AdapterRef, Sample, TrainingConfig
from lyra_adapters_server.types import LoraConfig as Lora

BASE = AdapterRef(name="base", base_alias="tiny")
GENERAL = shipped_rows()


class Scoring:
    """An executor that says the same of every row, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    async def score(self, spec: ScoreSpec) -> Scored:
        self.asked.append(len(spec.samples))
        return Scored(probabilities=[(0.4, 0.3, 0.3)] * len(spec.samples), metrics=None, truncated=[])


def rows(count: int, start: int = 0) -> list[Sample]:
    return [
        Sample(id=f"r{n}", premise=f"premise {n}", hypothesis="h", correct_label=LABELS[n % 3])
        for n in range(start, start + count)
    ]


def judged(training: list[Sample], held_out: list[Sample], trained_on: set[str]) -> tuple[Any, Scoring]:
    executor: Any = Scoring()
    general: dict[str, GeneralRows] = {"tiny": GENERAL}
    judging = Judging(executor, general)
    spec = TrainSpec(
        job_id="j",
        base_alias="tiny",
        training_samples=tuple(training),
        validation_samples=tuple(held_out),
        lora=Lora(),
        training=TrainingConfig(),
        champion=BASE,
        output_dir="",
    )

    async def scores() -> RowScores:
        return await judging.score(BASE, spec, trained_on)

    both = asyncio.run(scores())
    prepared = Prepared.model_construct(scores=both, champion=BASE, champion_scores=both)
    return judging.judge(spec, prepared, trained_on), executor


def relabelled(row: Sample) -> Sample:
    return row.model_copy(update={"correct_label": LABELS[(LABELS.index(row.correct_label) + 1) % 3]})


def turned(row: Sample) -> Sample:
    return row.model_copy(update={"premise": row.hypothesis, "hypothesis": row.premise})


@pytest.mark.parametrize("change", [lambda row: row, relabelled, turned, lambda row: relabelled(turned(row))])
def test_pairs_that_one_was_trained_on_do_not_count_under_any_label_or_turned_round(change: Any) -> None:
    held_out = rows(60)
    verdict, _ = judged(rows(100, 1000), held_out, {content_digest(change(row)) for row in held_out[:7]})
    assert verdict.excluded == set(range(7))
    assert verdict.judgement.held_out.rows == 53
    assert (verdict.before.samples, verdict.after.samples) == (53, 53)


def test_general_rows_are_asked_for_where_too_few_reviews_are_left() -> None:
    held_out = rows(60)
    _, asked = judged(rows(100, 1000), held_out, set())
    assert asked.asked == [60]
    verdict, asked = judged(rows(100, 1000), held_out, {content_digest(row) for row in held_out[:30]})
    assert asked.asked == [60, len(GENERAL.anchor)]
    assert verdict.judgement.general
    assert verdict.judgement.anchor.rows == len(GENERAL.anchor)


@pytest.mark.parametrize("whose", ["challenger", "champion"])
def test_general_rows_that_one_was_trained_on_do_not_count(whose: str) -> None:
    known = list(GENERAL.anchor[:30])
    mine, theirs = (known, []) if whose == "challenger" else ([], known)
    verdict, _ = judged([*rows(100, 1000), *mine], rows(20), {content_digest(relabelled(row)) for row in theirs})
    left = len(GENERAL.anchor) - 30
    assert (verdict.judgement.anchor.rows, len(verdict.general.samples)) == (left, left)
    assert not {row.id for row in verdict.general.samples} & {row.id for row in known}


def test_all_that_was_held_out_may_be_excluded() -> None:
    held_out = rows(20)
    verdict, asked = judged(rows(80, 1000), held_out, {content_digest(row) for row in held_out})
    assert asked.asked == [20]
    assert (verdict.judgement.outcome, verdict.judgement.more_reviews) == ("UNDECIDED", 200)
    assert (verdict.before, verdict.after) == (None, None)
    assert "trained on all 20 held-out reviews" in verdict.judgement.explanation
