from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.loop import train
from lyra_adapters_server.trainer.score import score
from lyra_adapters_server.trainer.spec import ScoreSpec, TrainSpec
from lyra_adapters_server.types import LABELS, AdapterRef, LoraConfig, Sample, TrainingConfig

BASE = AdapterRef(name="base", base_alias="tiny")
WORDS = ("yes", "no", "maybe")


def samples(count: int) -> tuple[Sample, ...]:
    return tuple(
        Sample(
            id=str(index),
            premise=f"cats {WORDS[index % 3]} sleep " * (1 + index % 5),
            hypothesis="dogs run",
            correct_label=LABELS[index % 3],
        )
        for index in range(count)
    )


def spec(output: Path, **changes: Any) -> TrainSpec:
    fields: dict[str, Any] = {
        "job_id": "job",
        "base_alias": "tiny",
        "training_samples": samples(20),
        "validation_samples": samples(6),
        "lora": LoraConfig(rank=4),
        "training": TrainingConfig(epochs=2, batch_size=4),
        "champion": BASE,
        "output_dir": str(output),
        "progress_interval_s": 0.0,
    }
    return TrainSpec.model_validate(fields | changes)


def run(wanted: TrainSpec, bases: Bases) -> list[Any]:
    return [event for event in train(wanted, bases) if event is not None]


def digest(directory: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(directory.iterdir()))).hexdigest()


def test_the_same_spec_gives_the_same_bytes(tiny_bases: Callable[[str], Bases], tmp_path: Path) -> None:
    for name, bases in (("a", tiny_bases("llama")), ("b", tiny_bases("llama"))):
        run(spec(tmp_path / name), bases)
        # And again on the base that is warm now.
        run(spec(tmp_path / f"{name}2"), bases)
    run(spec(tmp_path / "c", training=TrainingConfig(epochs=2, batch_size=4, seed=1)), bases)
    assert len({digest(tmp_path / name) for name in ("a", "a2", "b", "b2")}) == 1
    assert digest(tmp_path / "c") != digest(tmp_path / "a")


def test_learns_what_can_be_learned_and_says_how(tiny_bases: Callable[[str], Bases], tmp_path: Path) -> None:
    bases = tiny_bases("qwen2")
    targets = ("all-linear",)
    training = TrainingConfig(epochs=40, batch_size=4, learning_rate=2e-2, patience=0)
    events = run(spec(tmp_path, training=training, lora=LoraConfig(rank=8, target_modules=targets)), bases)
    before, after = events[-1].metrics_before, events[-1].metrics_after
    assert after.loss < before.loss - 0.3
    assert after.accuracy > before.accuracy
    evaluations = [event for event in events if event.kind == "evaluation" and event.stage == "VALIDATION"]
    assert len(evaluations) == 40
    # The last that was called the best; not by chance the last of all, nor far above the lowest loss.
    best = [event for event in evaluations if event.best][-1]
    assert best.metrics.loss < min(event.metrics.loss for event in evaluations) + 0.1
    assert (best.step, best.metrics) == (events[-1].best_step, after)
    published = AdapterRef(name="x_v1", base_alias="tiny", directory=str(tmp_path))
    scored: Any = next(filter(None, score(ScoreSpec(subject=published, samples=samples(6)), bases)))
    assert scored.metrics == after
    prompt = json.loads((tmp_path / "prompt.json").read_text())
    assert prompt["max_length"] == 256
    assert set(prompt["label_token_ids"]) == set(LABELS)


def test_stops_when_nothing_gets_better(tiny_bases: Callable[[str], Bases], tmp_path: Path) -> None:
    training = TrainingConfig(epochs=10, batch_size=4, learning_rate=1e-30, patience=2, weight_decay=0)
    events = run(spec(tmp_path, training=training), tiny_bases("llama"))
    trained = events[-1]
    assert trained.stopped_early
    # The first evaluation is the best by being first; two more bring no gain.
    assert (trained.best_step, trained.steps) == (5, 15)


def test_without_held_out_rows_the_last_step_is_kept(tiny_bases: Callable[[str], Bases], tmp_path: Path) -> None:
    events = run(spec(tmp_path, validation_samples=()), tiny_bases("llama"))
    assert {event.kind for event in events} == {"started", "progress", "trained"}
    trained = events[-1]
    assert (trained.metrics_before, trained.metrics_after) == (None, None)
    assert trained.best_step == trained.steps == 10


def test_evaluates_as_often_as_asked(tiny_bases: Callable[[str], Bases], tmp_path: Path) -> None:
    training = TrainingConfig(epochs=2, batch_size=4, evaluations_per_epoch=2, patience=0)
    events = run(spec(tmp_path, training=training), tiny_bases("llama"))
    steps = [event.step for event in events if event.kind == "evaluation" and event.stage == "VALIDATION"]
    assert steps == [2, 5, 8, 10]


def test_the_champion_is_scored_under_its_own_prompt(tiny_bases: Callable[[str], Bases], tmp_path: Path) -> None:
    bases = tiny_bases("llama")
    run(spec(tmp_path / "one"), bases)
    path = tmp_path / "one" / "prompt.json"
    content = json.loads(path.read_text())
    content |= {"name": "older", "template": "Claim {hypothesis} Premise {premise} Answer"}
    path.write_text(json.dumps(content))
    champion = AdapterRef(name="x_v1", base_alias="tiny", directory=str(tmp_path / "one"))
    scored: Any = next(filter(None, score(ScoreSpec(subject=champion, samples=samples(6)), bases)))
    events = run(spec(tmp_path / "two", champion=champion), bases)
    before = next(event for event in events if event.kind == "evaluation")
    assert (before.stage, before.subject, before.metrics) == ("BEFORE", "x_v1", scored.metrics)


def test_counts_cut_rows(tiny_bases: Callable[[str], Bases], tmp_path: Path) -> None:
    training = TrainingConfig(epochs=1, max_length=60)
    long = (samples(1)[0].model_copy(update={"premise": "cats sleep " * 60}),)
    events = run(spec(tmp_path, training_samples=samples(8) + long, training=training), tiny_bases("llama"))
    warning = next(event for event in events if event.kind == "warning")
    assert warning.reason == "SAMPLES_TRUNCATED"
    assert events[-1].truncated_samples >= 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"training_samples": ()}, "NO_TRAINING_SAMPLES"),
        ({"lora": LoraConfig(target_modules=("query",))}, "TARGET_MODULES_UNKNOWN"),
        ({"base_alias": "other"}, "BASE_MODEL_UNKNOWN"),
        ({"training": TrainingConfig(learning_rate=1e30, epochs=3, batch_size=4)}, "LOSS_NOT_FINITE"),
    ],
)
def test_says_why_it_cannot(
    tiny_bases: Callable[[str], Bases], tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(TrainerError) as caught:
        run(spec(tmp_path, **changes), tiny_bases("llama"))
    assert caught.value.reason == reason


def test_without_rows_to_fit_one_the_temperature_is_that_of_what_it_goes_on_from(
    tiny_bases: Callable[[str], Bases], tmp_path: Path
) -> None:
    bases = tiny_bases("llama")
    run(spec(tmp_path / "parent", inner=((0, 1, 2, 3, 4, 5),)), bases)
    prompt = tmp_path / "parent" / "prompt.json"
    prompt.write_text(json.dumps({**json.loads(prompt.read_text()), "temperature": 1.75}))
    parent = AdapterRef(name="x_v1", base_alias="tiny", directory=str(tmp_path / "parent"))
    calibration = run(spec(tmp_path / "child", inner=(), continue_from=parent), bases)[-1].calibration
    assert (calibration.temperature, calibration.rows, calibration.calibrated.temperature) == (1.75, 0, 1.75)
    assert json.loads((tmp_path / "child" / "prompt.json").read_text())["temperature"] == 1.75
    assert run(spec(tmp_path / "new", inner=()), bases)[-1].calibration.temperature == 1


@pytest.mark.parametrize(
    ("inner", "message"),
    [(((0, 1, 2, 3, 4, 5),), "inner rows' probabilities is nan at step 1"), ((), "held-out rows' .* is nan at step 1")],
)
def test_a_last_step_that_leaves_no_usable_weights_fails_the_job(
    tiny_bases: Callable[[str], Bases], tmp_path: Path, inner: tuple[tuple[int, ...], ...], message: str
) -> None:
    # The one step's own loss is a number; what it makes of the weights is too large for a product.
    training = TrainingConfig(learning_rate=1e38, epochs=1, batch_size=64, warmup_ratio=0)
    with pytest.raises(TrainerError, match=message) as caught:
        run(spec(tmp_path, training=training, inner=inner), tiny_bases("llama"))
    assert caught.value.reason == "LOSS_NOT_FINITE"
