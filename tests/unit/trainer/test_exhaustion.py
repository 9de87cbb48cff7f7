"""Memory that runs out in the middle of a training, or of scoring."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.data import Batch
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.exhaustion import TokenBudget, is_exhaustion
from lyra_adapters_server.trainer.fused import FusedLora
from lyra_adapters_server.trainer.loop import train
from lyra_adapters_server.trainer.score import classify
from lyra_adapters_server.trainer.spec import ClassifySpec
from lyra_adapters_server.types import LoraConfig, Pair, TrainingConfig
from test_loop import BASE, digest, run, samples, spec

MakeBases = Callable[[str], Bases]

CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried 99 bytes")
ERRORS = {"cuda": torch.OutOfMemoryError("CUDA out of memory."), "cpu": CPU, "host": MemoryError()}


def limit_memory(
    monkeypatch: pytest.MonkeyPatch, bases: Bases, tokens: int, error: Exception, *, training: bool = True
) -> list[int]:
    """Lets memory run out in micro-batches above so many padded tokens, in the middle of the model's pass."""
    base = bases.get("tiny")
    logits, sizes = base.logits, []

    def limited(batch: Batch, head: Any) -> torch.Tensor:
        found = logits(batch, head)
        if torch.is_grad_enabled() == training:
            sizes.append(batch.tokens.numel())
            if batch.tokens.numel() > tokens:
                raise error
        return found

    monkeypatch.setattr(base, "logits", limited)
    return sizes


@pytest.mark.parametrize("kind", ERRORS)
def test_smaller_micro_batches_give_the_same_training(
    tiny_bases: MakeBases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    # Without dropout the division into micro-batches changes nothing but the order of sums.
    changes = {"lora": LoraConfig(rank=4, dropout=0.0), "training": TrainingConfig(epochs=2, batch_size=8)}
    bases = tiny_bases("llama")
    sizes = limit_memory(monkeypatch, bases, 1 << 30, ERRORS[kind])
    plain = run(spec(tmp_path / "plain", **changes), bases)
    largest = max(sizes)
    monkeypatch.undo()
    sizes = limit_memory(monkeypatch, bases, largest - 1, ERRORS[kind])
    events = run(spec(tmp_path / "short", **changes), bases)
    warnings = [event for event in events if event.kind == "warning"]
    assert [warning.reason for warning in warnings] == ["MICRO_BATCH_HALVED"]
    budget = warnings[0].plan.train_token_budget
    assert f"at most {budget} tokens" in warnings[0].message
    assert budget < largest
    # Once is enough: the smaller size stays.
    assert sizes.count(largest) == 1
    assert events[-1].plan == warnings[0].plan
    losses = [[e.loss for e in told if e.kind == "progress"] for told in (plain, events)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert events[-1].metrics_after.loss == pytest.approx(plain[-1].metrics_after.loss, rel=1e-3)


def test_the_step_is_done_again_from_its_beginning(
    tiny_bases: MakeBases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout, and gradients half gathered: as if the smaller size had been the plan from the first step on."""
    bases = tiny_bases("llama")
    changes = {"lora": LoraConfig(rank=4, dropout=0.3), "training": TrainingConfig(epochs=2, batch_size=8)}
    backward, calls = FusedLora.backward, 0

    def fails_once(ctx: Any, *gradients: torch.Tensor) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise MemoryError
        return backward(ctx, *gradients)

    monkeypatch.setattr(FusedLora, "backward", staticmethod(fails_once))
    events = run(spec(tmp_path / "halved", **changes), bases)
    (warning,) = [event for event in events if event.kind == "warning"]
    assert warning.plan.train_token_budget < events[0].plan.train_token_budget
    run(spec(tmp_path / "small", plan=warning.plan, **changes), bases)
    assert digest(tmp_path / "halved") == digest(tmp_path / "small")


@pytest.mark.parametrize("at", [1, 3])
def test_an_optimizer_step_that_broke_off_is_undone(
    tiny_bases: MakeBases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """In the first step, where the moments come into being, and in a later one: half of the weights are done."""
    bases = tiny_bases("llama")
    changes = {"lora": LoraConfig(rank=4, dropout=0.3), "training": TrainingConfig(epochs=2, batch_size=8)}
    step, calls = torch.optim.AdamW.step, 0

    def breaks_off(optimizer: torch.optim.AdamW) -> None:
        nonlocal calls
        calls += 1
        whole = optimizer.param_groups[0]["params"]
        if calls == at:
            optimizer.param_groups[0]["params"] = whole[: len(whole) // 2]
        step(optimizer)
        optimizer.param_groups[0]["params"] = whole
        if calls == at:
            raise ERRORS["cuda"]

    monkeypatch.setattr(torch.optim.AdamW, "step", breaks_off)
    events = run(spec(tmp_path / "halved", **changes), bases)
    (warning,) = [event for event in events if event.kind == "warning"]
    assert warning.reason == "MICRO_BATCH_HALVED"
    progress = [event.step for event in events if event.kind == "progress"]
    assert progress == sorted(set(progress))
    monkeypatch.undo()
    if at == 1:
        run(spec(tmp_path / "small", plan=warning.plan, **changes), bases)
        assert digest(tmp_path / "halved") == digest(tmp_path / "small")
    else:
        without = {**changes, "lora": LoraConfig(rank=4, dropout=0.0)}
        plain = run(spec(tmp_path / "plain", **without), bases)[-1]
        calls = 0
        monkeypatch.setattr(torch.optim.AdamW, "step", breaks_off)
        halved = run(spec(tmp_path / "late", **without), bases)[-1]
        assert halved.metrics_after.loss == pytest.approx(plain.metrics_after.loss, rel=1e-3)


def test_one_row_that_does_not_fit_fails_with_advice(
    tiny_bases: MakeBases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases = tiny_bases("llama")
    limit_memory(monkeypatch, bases, 10, MemoryError())
    with pytest.raises(TrainerError) as failed:
        run(spec(tmp_path), bases)
    assert failed.value.reason == "OUT_OF_MEMORY"
    assert "max_length" in failed.value.message
    # The base is as it was: the next training works.
    monkeypatch.undo()
    assert run(spec(tmp_path / "next"), bases)[-1].kind == "trained"


def test_scoring_gets_smaller_too(tiny_bases: MakeBases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = run(spec(tmp_path / "plain"), tiny_bases("llama"))[-1]
    bases = tiny_bases("llama")
    sizes = limit_memory(monkeypatch, bases, 150, MemoryError(), training=False)
    events = run(spec(tmp_path / "short"), bases)
    warnings = [event for event in events if event.kind == "warning"]
    assert len(warnings) == 1
    assert warnings[0].message.startswith("Memory ran out, so scoring goes on")
    assert warnings[0].plan.score_token_budget < max(sizes)
    assert events[-1].metrics_after.loss == pytest.approx(plain.metrics_after.loss, rel=1e-4)


def test_classifying_gets_smaller_too(tiny_bases: MakeBases, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = tuple(Pair(premise=one.premise, hypothesis=one.hypothesis) for one in samples(12))
    wanted = ClassifySpec(subject=BASE, pairs=pairs)
    bases = tiny_bases("llama")
    (plain,) = filter(None, classify(wanted, bases))
    limit_memory(monkeypatch, bases, 200, MemoryError(), training=False)
    (short,) = filter(None, classify(wanted, bases))
    assert short.probabilities == [pytest.approx(row, rel=1e-4) for row in plain.probabilities]


def test_other_errors_are_not_taken_for_it(
    tiny_bases: MakeBases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases = tiny_bases("llama")
    limit_memory(monkeypatch, bases, 10, ValueError("something else"))
    with pytest.raises(ValueError, match="something else"):
        list(train(spec(tmp_path), bases))


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (MemoryError(), True),
        (CPU, True),
        (torch.OutOfMemoryError("x"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("could not create a memory object"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (OSError("out of memory"), False),
    ],
)
def test_how_it_shows(error: Exception, is_it: bool) -> None:
    assert is_exhaustion(error) is is_it


def test_a_budget_is_halved_until_the_micro_batch_must_be_split() -> None:
    budget = TokenBudget(1536)
    budget.halve(rows=8, width=100)
    assert budget.tokens == 768
    budget.halve(rows=2, width=50)
    assert budget.tokens == 96
    with pytest.raises(TrainerError):
        budget.halve(rows=1, width=96)
