"""The trainer's process as the server uses it: over a socket, with the demo base."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from lyra_adapters_server.trainer.spec import BaseModelConfig, CancelSpec, LoadSpec, ScoreSpec, TrainSpec, WorkerConfig
from lyra_adapters_server.types import AdapterRef, Label, LoraConfig, Sample, TrainingConfig
from trainer_process import TrainerProcess

pytestmark = pytest.mark.model

BASE = AdapterRef(name="base", base_alias="demo")


def samples(count: int, prefix: str = "s") -> tuple[Sample, ...]:
    sides = [
        (Label.SUPPORTS, "reduced", "The treatment reduced mortality."),
        (Label.REFUTES, "increased", "The treatment reduced mortality."),
        (Label.NEUTRAL, "did not measure", "The treatment reduced mortality."),
    ]
    found = []
    for index in range(count):
        label, verb, claim = sides[index % 3]
        premise = f"In cohort {index} of {10 + index} patients the treatment {verb} mortality within {index} weeks."
        found.append(Sample(id=f"{prefix}{index}", premise=premise, hypothesis=claim, correct_label=label))
    return tuple(found)


def spec(output: Path, job: str = "job", **changes: object) -> TrainSpec:
    fields: dict[str, object] = {
        "job_id": job,
        "base_alias": "demo",
        "training_samples": samples(24),
        "validation_samples": samples(6, "v"),
        "lora": LoraConfig(),
        "training": TrainingConfig(epochs=2),
        "champion": BASE,
        "output_dir": str(output),
        "progress_interval_s": 0.0,
    }
    return TrainSpec.model_validate(fields | changes)


def digest(directory: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(directory.iterdir()))).hexdigest()


@pytest.fixture(scope="module")
def config(model_cache: Path) -> WorkerConfig:
    # One thread: two that wait for each other are many times slower as soon as something else wants the cores.
    base = BaseModelConfig(alias="demo", source="demo")
    return WorkerConfig(bases=(base,), threads=1, cache_dir=str(model_cache))


@pytest.fixture(scope="module")
def trainer(config: WorkerConfig) -> Iterator[TrainerProcess]:
    with TrainerProcess(config) as process:
        yield process


def test_describes_a_base_model(trainer: TrainerProcess) -> None:
    card = trainer.result(trainer.ask("load", LoadSpec(base_alias="demo"))).card
    assert card.architecture == "LlamaForCausalLM"
    assert card.linear_modules["q_proj"] == (576, 576)
    assert card.linear_modules["v_proj"] == (192, 576)
    assert "lm_head" not in card.linear_modules
    assert card.default_target_modules == ("q_proj", "v_proj")
    assert len(card.identity.digest) == 64
    assert len(set(card.label_token_ids.values())) == 3


def test_trains_and_scores_meanwhile(trainer: TrainerProcess, tmp_path: Path) -> None:
    job = trainer.ask("train", spec(tmp_path / "a"))
    scoring = trainer.ask("score", ScoreSpec(subject=BASE, samples=samples(3)))
    ended = []
    events = []
    for reply in trainer.replies():
        assert reply.error is None
        if reply.id == job and reply.event is not None:
            events.append(reply.event)
        if reply.done:
            ended.append(reply.id)
            if reply.id == job:
                break
    assert ended == [scoring, job]
    kinds = [event.kind for event in events]
    assert kinds[0] == "started"
    assert kinds[-1] == "trained"
    stages = [event.stage for event in events if event.kind == "evaluation"]
    assert stages == ["BEFORE", "VALIDATION", "VALIDATION", "AFTER"]
    progress = [event for event in events if event.kind == "progress"]
    assert [event.step for event in progress] == [1, 2, 3, 4, 5, 6]
    assert progress[-1].fraction_done == 1
    trained = events[-1]
    assert trained.metrics_after.samples == 6
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {"adapter_model.safetensors", "adapter_config.json", "prompt.json"}

    # What was published scores as the job said.
    published = AdapterRef(name="x_v1", base_alias="demo", directory=str(tmp_path / "a"))
    scored = trainer.result(trainer.ask("score", ScoreSpec(subject=published, samples=samples(6, "v"))))
    assert scored.metrics == trained.metrics_after


# tests/contract/test_resumed_jobs.py compares bytes too.
@pytest.mark.slow
def test_a_second_job_equals_the_first_of_a_fresh_process(
    config: WorkerConfig, trainer: TrainerProcess, tmp_path: Path
) -> None:
    other = spec(tmp_path / "other", lora=LoraConfig(rank=4, target_modules=("k_proj", "up_proj")))
    trainer.result(trainer.ask("train", other))
    trainer.result(trainer.ask("train", spec(tmp_path / "second")))
    with TrainerProcess(config) as fresh:
        fresh.result(fresh.ask("train", spec(tmp_path / "fresh")))
    assert digest(tmp_path / "second") == digest(tmp_path / "fresh")


def test_two_jobs_side_by_side_do_not_touch_each_other(trainer: TrainerProcess, tmp_path: Path) -> None:
    trainer.result(trainer.ask("train", spec(tmp_path / "alone")))
    first = trainer.ask("train", spec(tmp_path / "together"))
    second = trainer.ask("train", spec(tmp_path / "other", training=TrainingConfig(epochs=2, seed=7)))
    ended: set[int] = set()
    for reply in trainer.replies():
        assert reply.error is None
        if reply.done:
            ended.add(reply.id)
        if ended == {first, second}:
            break
    assert digest(tmp_path / "alone") == digest(tmp_path / "together")
    assert digest(tmp_path / "alone") != digest(tmp_path / "other")


def test_a_cancelled_job_ends_and_leaves_no_files(trainer: TrainerProcess, tmp_path: Path) -> None:
    job = trainer.ask("train", spec(tmp_path / "a", training=TrainingConfig(epochs=50, patience=0)))
    for reply in trainer.replies():
        if reply.event is not None and reply.event.kind == "progress":
            break
    cancel = trainer.ask("cancel", CancelSpec(target=job))
    last = trainer.until_done(job)[-1]
    assert last.error is not None
    assert last.error.reason == "CANCELLED"
    assert trainer.until_done(cancel)[-1].error is None
    assert not (tmp_path / "a").exists()
    # The base is bare again.
    scored = trainer.result(trainer.ask("score", ScoreSpec(subject=BASE, samples=samples(3))))
    assert len(scored.probabilities) == 3


def test_a_failure_ends_its_own_request_only_and_names_no_text(trainer: TrainerProcess, tmp_path: Path) -> None:
    bad = trainer.until_done(trainer.ask("load", LoadSpec(base_alias="other")))[-1].error
    assert bad is not None
    assert bad.reason == "BASE_MODEL_UNKNOWN"
    gone = AdapterRef(name="x_v9", base_alias="demo", directory=str(tmp_path / "x_v9"))
    error = trainer.until_done(trainer.ask("score", ScoreSpec(subject=gone, samples=samples(1))))[-1].error
    assert error is not None
    assert error.reason == "ADAPTER_LOAD_FAILED"
    trainer.send_line(
        '{"id": 77, "method": "score", "params": {"subject": "SECRET", "samples": [{"premise": "SECRET"}]}}'
    )
    error = trainer.until_done(77)[-1].error
    assert error is not None
    assert error.reason == "INVALID_SPEC"
    assert "SECRET" not in error.message
    trainer.result(trainer.ask("score", ScoreSpec(subject=BASE, samples=samples(1))))


def test_a_child_starts_as_its_parent_and_may_only_grow(trainer: TrainerProcess, tmp_path: Path) -> None:
    parent_spec = spec(tmp_path / "parent", lora=LoraConfig(rank=4))
    trained = trainer.result(trainer.ask("train", parent_spec))
    parent = AdapterRef(name="p_v1", base_alias="demo", directory=str(tmp_path / "parent"))
    still = {"continue_from": parent, "champion": parent, "training": TrainingConfig(epochs=1, learning_rate=1e-12)}
    grown = LoraConfig(rank=8, target_modules=("q_proj", "k_proj", "v_proj"))
    child = trainer.result(trainer.ask("train", spec(tmp_path / "child", lora=grown, **still)))
    assert child.metrics_before == trained.metrics_after
    assert child.metrics_after.loss == pytest.approx(trained.metrics_after.loss, abs=0.02)
    shrunk = spec(tmp_path / "no", lora=LoraConfig(rank=2), **still)
    error = trainer.until_done(trainer.ask("train", shrunk))[-1].error
    assert error is not None
    assert error.reason == "CONTINUE_FROM_SHRINKS"


def test_ends_when_the_server_is_gone_and_ignores_ctrl_c(config: WorkerConfig, tmp_path: Path) -> None:
    with TrainerProcess(config) as trainer:
        trainer.result(trainer.ask("load", LoadSpec(base_alias="demo")))
        trainer.process.send_signal(signal.SIGINT)
        trainer.ask("train", spec(tmp_path / "a", training=TrainingConfig(epochs=50, patience=0)))
        for reply in trainer.replies():
            if reply.event is not None and reply.event.kind == "progress":
                break
        secret = Sample(id="1", premise="SECRET", hypothesis="SECRET", correct_label=Label.NEUTRAL)
        trainer.ask("score", ScoreSpec(subject=BASE, samples=(secret,)))
        log = trainer.stop()
        assert trainer.process.returncode == 0
        assert "request 2: train" in log
        assert "SECRET" not in log
