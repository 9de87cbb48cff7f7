"""Several runs in one job: candidates, folds, their progress, the temperature, and going on from a checkpoint."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.loop import train
from lyra_adapters_server.trainer.score import score
from lyra_adapters_server.trainer.spec import CheckpointRules, ScoreSpec, TrainSpec
from lyra_adapters_server.trainer.suspend import Suspend
from lyra_adapters_server.types import AdapterRef, Candidate, LoraConfig, TrainingConfig
from test_loop import digest, run, samples, spec

FOLDS = (tuple(range(0, 20, 2)), tuple(range(1, 20, 2)))
BOTH = (Candidate(learning_rate=1e-30), Candidate(learning_rate=1e-2, epochs=6))
# Its loss is no number after a step or two.
TOO_HIGH = Candidate(learning_rate=1e38)


def many(output: Path, distillation: float = 0, candidates: tuple[Candidate, ...] = BOTH, **changes: Any) -> TrainSpec:
    training = TrainingConfig(
        epochs=2, batch_size=4, patience=0, weight_decay=0, candidates=candidates, distillation=distillation
    )
    return spec(output, **{"training": training, "inner": ((0, 1, 2, 3, 4, 5),), **changes})


def evaluations(events: list[Any], stage: str) -> list[Any]:
    return [event for event in events if event.kind == "evaluation" and event.stage == stage]


def test_the_better_candidate_is_published_and_each_ones_progress_is_told(
    tiny_bases: Callable[[str], Bases], tmp_path: Path
) -> None:
    events = run(many(tmp_path, lora=LoraConfig(rank=8, target_modules=("all-linear",))), tiny_bases("llama"))
    progress = [event for event in events if event.kind == "progress"]
    assert {(event.run, event.runs) for event in progress} == {(1, 2), (2, 2)}
    assert all("candidate" in event.run_name for event in progress)
    steps = [event.step for event in progress]
    assert steps == sorted(steps)
    assert (steps[-1], progress[-1].fraction_done) == (progress[-1].total_steps, 1.0)
    trained = events[-1]
    assert [one.chosen for one in trained.runs] == [False, True]
    lowest = min(evaluations(events, "VALIDATION"), key=lambda event: event.metrics.loss)
    assert (lowest.run, trained.best_step) == (2, lowest.step)
    # Inner rows chose; the held-out ones only saw the result.
    assert {event.metrics.samples for event in evaluations(events, "VALIDATION")} == {6}
    assert trained.calibration.rows == 6
    assert not trained.calibration.cross_fitted


def test_folds_predict_every_row_once_and_a_last_run_takes_all(
    tiny_bases: Callable[[str], Bases], tmp_path: Path
) -> None:
    bases = tiny_bases("llama")
    training = TrainingConfig(epochs=4, batch_size=4, learning_rate=1e-2)
    events = run(spec(tmp_path, training=training, inner=FOLDS), bases)
    trained = events[-1]
    assert [one.rows for one in trained.runs] == [10, 10, 20]
    assert (trained.calibration.rows, trained.calibration.cross_fitted) == (20, True)
    told = json.loads((tmp_path / "prompt.json").read_text())["temperature"]
    assert told == trained.calibration.temperature != 1.0
    # What is published scores under its temperature, wherever it is asked.
    published = AdapterRef(name="x_v1", base_alias="tiny", directory=str(tmp_path))
    scored: Any = next(filter(None, score(ScoreSpec(subject=published, samples=samples(6)), bases)))
    assert scored.metrics == trained.metrics_after == evaluations(events, "AFTER")[0].metrics
    assert scored.metrics.temperature == told
    assert trained.calibration.uncalibrated.accuracy == trained.metrics_after.accuracy
    assert trained.calibration.uncalibrated.loss != trained.metrics_after.loss


def test_the_temperature_leaves_rows_aside_that_an_error_chose(
    tiny_bases: Callable[[str], Bases], tmp_path: Path
) -> None:
    training = TrainingConfig(epochs=1, batch_size=4)
    inner = (tuple(range(4, 26)),)
    events = run(
        spec(tmp_path, training=training, training_samples=samples(26), inner=inner, picked_out=(0, 4, 5)),
        tiny_bases("llama"),
    )
    assert events[-1].calibration.rows == 20


def test_without_inner_rows_the_last_step_is_kept(tiny_bases: Callable[[str], Bases], tmp_path: Path) -> None:
    events = run(spec(tmp_path, inner=()), tiny_bases("llama"))
    assert not evaluations(events, "VALIDATION")
    assert events[-1].best_step == events[-1].steps == 10
    assert events[-1].calibration.temperature == 1.0
    assert events[-1].metrics_after.samples == 6


def test_replayed_rows_are_trained_on_and_never_choose(tiny_bases: Callable[[str], Bases], tmp_path: Path) -> None:
    events = run(spec(tmp_path, inner=((0, 1, 2),), replay_samples=samples(3)), tiny_bases("llama"))
    assert (events[0].training_samples, events[0].inner_samples, events[0].replayed_general_rows) == (20, 3, 3)
    assert events[-1].runs[0].rows == 20


@pytest.mark.parametrize("inner", [((0, 1, 2, 3, 4, 5),), FOLDS], ids=["inner part", "folds"])
@pytest.mark.parametrize("place", [0, 1])
def test_a_candidate_whose_loss_is_not_finite_is_out_of_the_running(
    inner: tuple[tuple[int, ...], ...], place: int, tiny_bases: Callable[[str], Bases], tmp_path: Path
) -> None:
    bases = tiny_bases("llama")
    good = Candidate(learning_rate=1e-2)
    both = (TOO_HIGH, good) if place == 0 else (good, TOO_HIGH)
    events = run(many(tmp_path / "both", candidates=both, inner=inner), bases)
    (warning,) = [event for event in events if event.kind == "warning"]
    assert warning.reason == "CANDIDATE_DROPPED"
    assert f"candidate {place + 1} of 2" in warning.message
    broken = [one for one in events[-1].runs if one.learning_rate == 1e38]
    assert [(one.chosen, one.inner_loss) for one in broken] == [(False, None)] * len(inner)
    # As if it had never been asked for.
    run(many(tmp_path / "alone", candidates=(good,), inner=inner), bases)
    assert digest(tmp_path / "both") == digest(tmp_path / "alone")


def test_a_job_fails_where_no_candidate_is_left(tiny_bases: Callable[[str], Bases], tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="LOSS_NOT_FINITE"):
        run(many(tmp_path, candidates=(TOO_HIGH, Candidate(learning_rate=9e37))), tiny_bases("llama"))


@pytest.mark.parametrize(
    ("inner", "distillation", "candidates"),
    [
        (((0, 1, 2, 3, 4, 5),), 0, BOTH),
        (FOLDS, 0, BOTH),
        (((0, 1, 2, 3, 4, 5),), 1, BOTH),
        (((0, 1, 2, 3, 4, 5),), 0, (*BOTH, TOO_HIGH)),
        (FOLDS, 0, (TOO_HIGH, *BOTH)),
    ],
    ids=["candidates", "folds", "distilled", "the last dropped", "the first dropped"],
)
def test_interrupted_anywhere_the_result_is_the_same(
    inner: tuple[tuple[int, ...], ...],
    distillation: float,
    candidates: tuple[Candidate, ...],
    tiny_bases: Callable[[str], Bases],
    tmp_path: Path,
) -> None:
    bases = tiny_bases("llama")
    run(many(tmp_path / "whole", distillation, candidates, inner=inner), bases)
    turns = 5
    for attempt in itertools.count():
        rules = CheckpointRules(directory=str(tmp_path / "checkpoints"), steps=3, seconds=0)
        wanted = many(tmp_path / "parts", distillation, candidates, inner=inner, checkpoints=rules)
        work: Any = train(wanted, bases)
        ended = False
        for _ in range(turns):
            if next(work, "ended") == "ended":
                ended = True
                break
        if ended:
            break
        list(_suspended(work))
        turns += 6
        assert attempt < 40
    assert attempt >= 2
    assert digest(tmp_path / "parts") == digest(tmp_path / "whole")


def _suspended(work: Any) -> Any:
    try:
        yield work.throw(Suspend())
        yield from work
    except (StopIteration, Suspend):
        return
