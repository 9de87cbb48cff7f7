"""A training that is broken off anywhere and goes on gives the bytes of one that was left alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.loop import train
from lyra_adapters_server.trainer.spec import BaseModelConfig, CheckpointRules, TrainSpec, WorkerConfig
from lyra_adapters_server.trainer.suspend import Suspend
from lyra_adapters_server.types import AdapterRef, LoraConfig, TrainingConfig
from test_loop import BASE, digest, spec
from tiny_encoders import make_tiny_encoder

MakeBases = Callable[[str], Bases]

# Dropout; validation after which the best step is restored; and early stopping, since nothing gets better.
KINDS: dict[str, dict[str, Any]] = {
    "dropout": {"lora": LoraConfig(rank=4, dropout=0.3)},
    "best": {"training": TrainingConfig(epochs=4, batch_size=4, learning_rate=0.05, patience=0)},
    "early": {"training": TrainingConfig(epochs=8, batch_size=4, learning_rate=1e-30, patience=2, weight_decay=0)},
    "nothing held out": {"validation_samples": ()},
    "upper half": {"lora": LoraConfig(rank=4, dropout=0.3, upper_half=True)},
}


@pytest.fixture
def encoder_bases(tmp_path: Path) -> Bases:
    """A tiny encoder without an NLI head, so that a head is trained too."""
    base = BaseModelConfig(alias="tiny", source=str(make_tiny_encoder(tmp_path / "encoder", "bert", ())))
    return Bases(WorkerConfig(bases=(base,), device="cpu", dtype="float32", cache_dir=str(tmp_path / "cache")))


def with_checkpoints(wanted: TrainSpec, steps: int = 1) -> TrainSpec:
    directory = str(Path(wanted.output_dir).parent / f"{Path(wanted.output_dir).name}-checkpoints")
    return wanted.model_copy(update={"checkpoints": CheckpointRules(directory=directory, steps=steps, seconds=0)})


def run_in_pieces(wanted: TrainSpec, bases: Bases, seed: int) -> tuple[list[Any], int]:
    """Breaks a training off at random turns, by a death or by asking for it; returns all events and the attempts."""
    chance, events, attempts = random.Random(seed), [], 0
    while True:
        attempts += 1
        work: Iterator[Any] = train(wanted, bases)
        for _ in range(chance.randrange(1, 40)):
            try:
                event = next(work)
            except StopIteration:
                return events, attempts
            events.append(event)
            if event is not None and event.kind == "started":
                wanted = wanted.model_copy(update={"plan": event.plan})
        if chance.random() < 0.5:
            events += put_aside(work)
        work.close()  # type: ignore[attr-defined]


def put_aside(work: Any) -> list[Any]:
    found = []
    try:
        found.append(work.throw(Suspend()))
        found += list(work)
    except (Suspend, StopIteration):
        pass
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [1, 2])
def test_bytes_of_a_causal_training_in_pieces(tiny_bases: MakeBases, tmp_path: Path, kind: str, seed: int) -> None:
    check(tiny_bases("llama"), tmp_path, seed, KINDS[kind])


@pytest.mark.parametrize(("kind", "upper_half"), [("dropout", False), ("best", False), ("best", True)])
def test_bytes_of_an_encoders_training_in_pieces(
    encoder_bases: Bases, tmp_path: Path, kind: str, upper_half: bool
) -> None:
    check(encoder_bases, tmp_path, 3, {**KINDS[kind], "lora": LoraConfig(rank=4, dropout=0.3, upper_half=upper_half)})


def test_bytes_of_a_continued_training_in_pieces(tiny_bases: MakeBases, tmp_path: Path) -> None:
    bases = tiny_bases("llama")
    list(train(spec(tmp_path / "parent"), bases))
    parent = AdapterRef(name="x_v1", base_alias="tiny", directory=str(tmp_path / "parent"))
    check(bases, tmp_path, 4, {"continue_from": parent, "champion": parent, "lora": LoraConfig(rank=6, dropout=0.1)})


def check(bases: Bases, tmp_path: Path, seed: int, changes: dict[str, Any]) -> None:
    whole = [event for event in train(spec(tmp_path / "whole", **changes), bases) if event is not None]
    events, attempts = run_in_pieces(with_checkpoints(spec(tmp_path / "pieces", **changes)), bases, seed)
    assert attempts > 1
    assert digest(tmp_path / "pieces") == digest(tmp_path / "whole")
    told = [event for event in events if event is not None]
    assert {event.kind for event in told} >= {"started", "checkpointed", "trained"}
    one, other = (done.model_copy(update={"training_seconds": 0.0}) for done in (told[-1], whole[-1]))
    assert one == other
    # It went on, instead of beginning anew.
    starts = [event.step for event in told if event.kind == "started"]
    assert starts == sorted(starts)
    assert starts[-1] > 0
    # What is in force was scored once.
    assert sum(event.kind == "evaluation" and event.stage == "BEFORE" for event in told) <= 2


def test_what_is_in_force_is_scored_again_if_it_changed(tiny_bases: MakeBases, tmp_path: Path) -> None:
    bases = tiny_bases("llama")
    list(train(spec(tmp_path / "parent"), bases))
    wanted = with_checkpoints(spec(tmp_path / "a"))
    work = train(wanted, bases)
    while (event := next(work)) is None or event.kind != "checkpointed":
        pass
    work.close()  # type: ignore[attr-defined]
    champion = AdapterRef(name="x_v1", base_alias="tiny", directory=str(tmp_path / "parent"))
    for now, subjects in ((BASE, []), (champion, ["x_v1"])):
        events = train(wanted.model_copy(update={"champion": now}), bases)
        told = [next(e for e in events if e is not None)]
        assert told[0].step > 0
        told += [e for e in events if e is not None]
        assert [e.subject for e in told if e.kind == "evaluation" and e.stage == "BEFORE"] == subjects
        assert told[-1].metrics_before is not None


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tiny_bases: MakeBases, tmp_path: Path) -> None:
    bases = tiny_bases("llama")
    list(train(spec(tmp_path / "whole"), bases))
    wanted = with_checkpoints(spec(tmp_path / "a"), steps=2)
    work = train(wanted, bases)
    while (event := next(work)) is None or event.kind != "checkpointed" or event.step < 4:
        pass
    work.close()  # type: ignore[attr-defined]
    torn = tmp_path / "a-checkpoints" / "step-00000004" / "state.safetensors"
    torn.write_bytes(torn.read_bytes()[:100])
    told = [event for event in train(wanted, bases) if event is not None]
    assert (told[0].kind, told[0].step) == ("started", 2)
    assert (told[1].kind, told[1].reason) == ("warning", "CHECKPOINT_UNUSABLE")
    assert "step 4" in told[1].message
    assert digest(tmp_path / "a") == digest(tmp_path / "whole")


def test_runs_under_the_jobs_plan_and_says_what_it_cannot_keep(tiny_bases: MakeBases, tmp_path: Path) -> None:
    bases = tiny_bases("llama")
    first = next(event for event in train(spec(tmp_path / "a"), bases) if event is not None)
    assert first.plan.threads == torch.get_num_threads() == 1
    plan = first.plan.model_copy(update={"threads": 2, "train_token_budget": 200, "torch": "1.0", "dtype": "bfloat16"})
    seen = set()
    told = []
    for event in train(spec(tmp_path / "b", plan=plan), bases):
        # Between its turns others have their own number of threads.
        assert torch.get_num_threads() == 1
        if event is not None:
            told.append(event)
            seen.add(event.kind)
    assert (told[0].plan.threads, told[0].plan.train_token_budget) == (2, 200)
    assert (told[0].plan.torch, told[0].plan.dtype) == (torch.__version__, "float32")
    assert told[1].reason == "PLAN_CHANGED"
    assert "dtype float32, was bfloat16" in told[1].message
    assert told[-1].plan == told[0].plan


def test_the_number_of_threads_holds_in_every_turn(
    tiny_bases: MakeBases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases = tiny_bases("llama")
    base = bases.get("tiny")
    counts = []
    logits = base.logits

    def counted(*arguments: Any) -> Any:
        counts.append(torch.get_num_threads())
        return logits(*arguments)

    monkeypatch.setattr(base, "logits", counted)
    first = next(event for event in train(spec(tmp_path / "a"), bases) if event is not None)
    list(train(spec(tmp_path / "b", plan=first.plan.model_copy(update={"threads": 3})), bases))
    assert set(counts) == {3}
    assert torch.get_num_threads() == 1
