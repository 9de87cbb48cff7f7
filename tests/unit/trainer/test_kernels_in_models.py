"""Whole models with the compiled kernels: as near to float32 as without them, and the same bytes again and again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lyra_adapters_server.trainer import attention
from lyra_adapters_server.trainer.base import Base
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.data import encode_rows, make_batch
from lyra_adapters_server.trainer.events import Scored
from lyra_adapters_server.trainer.fused import Dropout
from lyra_adapters_server.trainer.heads import summed_loss
from lyra_adapters_server.trainer.kernels import ops
from lyra_adapters_server.trainer.loop import train
from lyra_adapters_server.trainer.score import score
from lyra_adapters_server.trainer.spec import BaseModelConfig, ScoreSpec, WorkerConfig
from lyra_adapters_server.types import AdapterRef, LoraConfig
from test_encoders import samples
from test_loop import digest, spec
from test_pieces import check
from tiny_causal import FAMILIES, make_tiny_causal
from tiny_encoders import minilm_directory

ENCODER = "minilm"


@pytest.fixture(autouse=True)
def _kernels(tmp_path_factory: pytest.TempPathFactory) -> None:
    missing = ops.load(tmp_path_factory.getbasetemp() / "compiled")
    if missing:
        pytest.skip(f"no compiled kernels here: {missing}")


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Of a base of each family, whose weights are what bfloat16 can hold, as those of published models are."""
    import transformers

    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family == ENCODER:
            return minilm_directory()
        if family not in made:
            made[family] = make_tiny_causal(tmp_path_factory.mktemp(family), family)
            model = transformers.AutoModelForCausalLM.from_pretrained(made[family], dtype=torch.bfloat16)
            model.save_pretrained(made[family])
        return made[family]

    return make


def bases_of(source: Path, cache: Path, dtype: str = "bfloat16", **options: Any) -> Bases:
    base = BaseModelConfig(alias="tiny", source=str(source))
    return Bases(WorkerConfig(bases=(base,), device="cpu", dtype=dtype, cache_dir=str(cache), **options))


def gradients(base: Base) -> torch.Tensor:
    """Of several adapters, since what rounding does to one is a matter of luck."""
    return torch.cat([gradients_of(base, seed) for seed in range(6)])


def gradients_of(base: Base, seed: int) -> torch.Tensor:
    """Of all of an adapter's A and B, for a few rows with dropout."""
    adapter = base.new_adapter(LoraConfig(rank=4, dropout=0.1), base.card.default_target_modules, seed)
    generator = torch.Generator().manual_seed(100 + seed)
    with torch.no_grad():
        for parameter in adapter.parameters.values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    rows = make_batch(encode_rows(samples(6, long=2), base.encoder, 300), base.padding, base.device)
    adapter.dropout = Dropout(0.1, seed)
    adapter.dropout.start(0, 0)
    with adapter.attached():
        summed_loss(base.logits(rows, base.head(base.encoder, adapter)), rows.labels, 0.1).backward()
    found = [parameter.grad for name, parameter in adapter.parameters.items() if "lora_" in name]
    # Each matrix counts alike.
    return torch.cat([(one / (one.norm() + 1e-20)).flatten() for one in found if one is not None])


@pytest.mark.parametrize("family", [*sorted(FAMILIES), ENCODER])
def test_gradients_as_near_to_float32_as_without(
    family: str, directory: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    compiled = attention.CompiledAttention.apply

    def counted(*arguments: Any) -> Any:
        used.append(arguments)
        return compiled(*arguments)

    monkeypatch.setattr(attention.CompiledAttention, "apply", counted)
    exact = gradients(bases_of(directory(family), tmp_path, "float32").get("tiny"))
    assert not used
    low = bases_of(directory(family), tmp_path).get("tiny")
    with ops.using(False):
        plain = gradients(low)
    assert not used
    found = gradients(low)
    # Gemma 2 caps its scores, which the kernel does not.
    assert bool(used) == (family != "gemma2")
    assert not torch.equal(found, plain)
    assert (found - exact).norm() < 1.15 * (plain - exact).norm()


@pytest.mark.parametrize("family", ["qwen2", "gemma3_text"])
@pytest.mark.parametrize("seed", [1, 2])
def test_bytes_of_a_training_in_pieces(
    family: str, seed: int, directory: Callable[[str], Path], tmp_path: Path
) -> None:
    check(bases_of(directory(family), tmp_path), tmp_path, seed, {"lora": LoraConfig(rank=4, dropout=0.3)})


def test_a_job_goes_on_as_it_was_begun(directory: Callable[[str], Path], tmp_path: Path) -> None:
    bases = bases_of(directory("llama"), tmp_path)
    results = {}
    for kernels in ("fused_packed", "compiled_packed"):
        first = next(event for event in train(spec(tmp_path / "asked"), bases) if event is not None)
        assert first.plan.kernels == "compiled_packed"
        plan = first.plan.model_copy(update={"kernels": kernels})
        told = [event for event in train(spec(tmp_path / kernels, plan=plan), bases) if event is not None]
        assert told[0].plan.kernels == kernels
        assert "PLAN_CHANGED" not in [getattr(event, "reason", "") for event in told]
        results[kernels] = digest(tmp_path / kernels)
    assert results["fused_packed"] != results["compiled_packed"]
    with ops.using(False):
        list(train(spec(tmp_path / "without", plan=plan.model_copy(update={"kernels": "fused_packed"})), bases))
    assert digest(tmp_path / "without") == results["fused_packed"]


def test_says_that_they_are_gone(
    directory: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases = bases_of(directory("llama"), tmp_path)
    plan = next(event for event in train(spec(tmp_path / "a"), bases) if event is not None).plan
    monkeypatch.setattr(ops, "_library", None)
    told = [event for event in train(spec(tmp_path / "b", plan=plan), bases) if event is not None]
    assert told[1].reason == "PLAN_CHANGED"
    assert "kernels fused_packed, was compiled_packed" in told[1].message


def test_off_means_off(directory: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "_library", None)
    monkeypatch.setattr(ops, "_missing", None)
    bases_of(directory("llama"), tmp_path, compiled_kernels="off").get("tiny")
    assert not ops.loaded()
    bases_of(directory("llama"), tmp_path, "float32").get("tiny")
    assert not ops.loaded()
    bases_of(directory("llama"), tmp_path).get("tiny")
    assert ops.loaded()


def test_scores_with_and_without_are_kept_apart(directory: Callable[[str], Path], tmp_path: Path) -> None:
    wanted = ScoreSpec(subject=AdapterRef(name="base", base_alias="tiny"), samples=samples(6))
    warm = bases_of(directory("llama"), tmp_path)

    def scored(bases: Bases) -> Any:
        return next(event.probabilities for event in score(wanted, bases) if isinstance(event, Scored))

    compiled = scored(warm)
    with ops.using(False):
        assert scored(warm) == scored(bases_of(directory("llama"), tmp_path)) != compiled
    assert scored(warm) == compiled
