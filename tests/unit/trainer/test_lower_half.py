"""Adapters of the upper half of the layers: what the lower half computes is kept, and nothing else is different."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from conftest import FAMILIES
from lyra_adapters_server.trainer import loop, training_rows
from lyra_adapters_server.trainer.bases import Base, Bases
from lyra_adapters_server.trainer.data import Row, make_batch
from lyra_adapters_server.trainer.events import Trained
from lyra_adapters_server.trainer.heads import summed_loss
from lyra_adapters_server.trainer.loop import train
from lyra_adapters_server.trainer.lora import load_adapter
from lyra_adapters_server.trainer.lower_half import layers_of
from lyra_adapters_server.trainer.spec import BaseModelConfig, WorkerConfig
from lyra_adapters_server.trainer.targets import target_modules
from lyra_adapters_server.types import LoraConfig, TrainingConfig
from safetensors.torch import load_file
from test_loop import spec
from tiny_encoders import make_tiny_encoder

# PEFT asks transformers by a name that it is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

UPPER = LoraConfig(rank=4, dropout=0, upper_half=True)
ENCODERS = ("bert", "roberta", "deberta-v3")


@pytest.fixture
def base_of(tiny_bases: Callable[[str], Bases], tmp_path: Path) -> Callable[[str], Base]:
    """A base of a causal family or of an encoder's."""

    def make(family: str) -> Base:
        if family in FAMILIES:
            return tiny_bases(family).get("tiny")
        labels = ("entailment", "contradiction", "neutral")
        config = BaseModelConfig(alias="tiny", source=str(make_tiny_encoder(tmp_path / "encoder", family, labels)))
        cache = str(tmp_path / "cache")
        return Bases(WorkerConfig(bases=(config,), device="cpu", dtype="float32", cache_dir=cache)).get("tiny")

    return make


@pytest.mark.parametrize("family", [*FAMILIES, *ENCODERS])
def test_logits_and_gradients_are_those_of_the_whole_model(family: str, base_of: Callable[[str], Base]) -> None:
    base = base_of(family)
    adapter = base.new_adapter(UPPER, target_modules(base, UPPER), seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in adapter.parameters.values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    layers = layers_of(base.model)
    lower = [f".{index}." for index in range(len(layers) // 2)]
    assert not [name for name in adapter.parameters if any(one in name for one in lower)]
    head = base.head(base.encoder, adapter)
    # Rows that begin alike are computed in another layout than those that don't.
    beginning = torch.randint(5, 90, (20,), generator=generator).tolist()
    rows = [
        Row((*beginning, *torch.randint(5, 90, (count,), generator=generator).tolist()), count % 3, False)
        for count in (7, 30, 12, 9)
    ]
    singles = [make_batch([row], base.padding, base.device) for row in rows]
    states = [base.lower_states(adapter, one, head)[0] for one in singles]
    assert [len(state) for state in states] == [len(row.tokens) for row in rows]
    batch = make_batch(rows, base.padding, base.device)

    def run() -> tuple[torch.Tensor, list[torch.Tensor]]:
        for parameter in adapter.parameters.values():
            parameter.grad = None
        with adapter.attached():
            logits = base.logits(batch, head)
            summed_loss(logits, batch.labels).backward()  # type: ignore[no-untyped-call]
        return logits.detach(), [parameter.grad.clone() for parameter in adapter.parameters.values()]

    expected, gradients = run()
    assert adapter.lower_half is not None
    base.keep_lower_states(adapter, batch, states)
    forward = type(layers[0]).forward
    called: list[Any] = []
    layers[0].__class__.forward = lambda *a, **k: called.append(None) or forward(*a, **k)
    try:
        found, others = run()
        # Of three layers two, of two one.
        assert len(called) == len(layers) - len(layers) // 2
        called.clear()
        adapter.lower_half.kept = None
        run()
        assert len(called) == len(layers)
    finally:
        layers[0].__class__.forward = forward
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_a_training_gives_the_same_whether_states_are_kept_or_not(
    tiny_bases: Callable[[str], Bases], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {"lora": UPPER.model_copy(update={"dropout": 0.2}), "training": TrainingConfig(epochs=3, batch_size=4)}
    kept: list[int] = []
    backward = loop.backward

    def counting(part: torch.Tensor) -> float | None:
        kept.append(sum(row.lower is not None for row in training[-1].all))
        return backward(part)

    training: list[Any] = []
    rows = training_rows.TrainingRows

    def watched(*arguments: Any) -> Any:
        training.append(rows(*arguments))
        return training[-1]

    monkeypatch.setattr(loop, "backward", counting)
    monkeypatch.setattr(loop, "TrainingRows", watched)
    list(train(spec(tmp_path / "kept", **wanted), tiny_bases("llama")))
    assert set(kept) == {len(training[-1].all)}
    kept.clear()
    monkeypatch.setattr(training_rows, "MOST_BYTES", 0)
    list(train(spec(tmp_path / "computed", **wanted), tiny_bases("llama")))
    assert set(kept) == {0}
    one, other = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("kept", "computed"))
    assert one.keys() == other.keys()
    assert not [name for name in one if ".0." in name]
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-5)


def test_peft_loads_it_and_answers_alike(
    tiny_directory: Callable[[str], Path], tiny_bases: Callable[[str], Bases], tmp_path: Path
) -> None:
    bases = tiny_bases("llama")
    list(train(spec(tmp_path / "x", lora=UPPER), bases))
    assert json.loads((tmp_path / "x" / "adapter_config.json").read_text())["layers_to_transform"] == [1, 2]
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_directory("llama"), dtype=torch.float32)
    adapted = peft.PeftModel.from_pretrained(model, str(tmp_path / "x"))
    base = bases.get("tiny")
    ours = load_adapter(base.model, tmp_path / "x")
    row = Row(tuple(range(5, 40)), 0, False)
    batch = make_batch([row], base.padding, base.device)
    head = base.head(base.encoder, ours)
    with torch.no_grad(), ours.attached():
        found = base.logits(batch, head)
    with torch.no_grad():
        logits = adapted(input_ids=batch.tokens).logits[0, -1]
    torch.testing.assert_close(found[0], logits[list(base.encoder.label_token_ids)], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", *ENCODERS])
def test_every_fold_and_candidate_uses_what_is_kept(
    family: str, base_of: Callable[[str], Base], tiny_bases: Callable[[str], Bases], tmp_path: Path
) -> None:
    bases = tiny_bases("llama")
    if family != "llama":
        base_of(family)
        config = BaseModelConfig(alias="tiny", source=str(tmp_path / "encoder"))
        bases = Bases(WorkerConfig(bases=(config,), device="cpu", dtype="bfloat16", cache_dir=str(tmp_path / "cache")))
    folds = (tuple(range(10)), tuple(range(10, 20)))
    training = TrainingConfig(epochs=1, batch_size=4)
    trained = list(train(spec(tmp_path / "x", lora=UPPER, training=training, inner=folds), bases))[-1]
    assert isinstance(trained, Trained)
    assert [run.rows for run in trained.runs] == [10, 10, 20]
