"""The fused engine against transformers and PEFT as they come."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from conftest import FAMILIES
from lyra_adapters_server.trainer import rotary
from lyra_adapters_server.trainer.bases import Base, Bases
from lyra_adapters_server.trainer.data import Batch, Row, make_batch
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.fused import Dropout, FusedLora
from lyra_adapters_server.trainer.heads import summed_loss
from lyra_adapters_server.trainer.lora import Adapter, load_adapter, new_config
from lyra_adapters_server.trainer.norms import RmsNorm
from lyra_adapters_server.trainer.packing import Packing, lay_out
from lyra_adapters_server.types import LoraConfig
from torch import nn

# PEFT asks transformers by a name that it is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

TARGETS = ("q_proj", "v_proj", "down_proj")


def batch() -> Batch:
    """Rows that begin with the same words, in two groups for attention, each with padding."""
    generator = torch.Generator().manual_seed(3)
    tokens = [torch.randint(3, 250, (n,), generator=generator).tolist() for n in (17, 90, 15, 80, 8)]
    rows = [Row((*tokens[-1], *own), len(own) % 3, False) for own in tokens[:-1]]
    return make_batch(rows, 0, torch.device("cpu"))


def random_adapter(base: Base, config: Any) -> Adapter:
    adapter = Adapter(base.model, config)
    adapter.initialise(1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in adapter.parameters.values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return adapter


class SameMasks:
    """The masks of ours for PEFT's layers, which see padded rows where ours may see them end to end."""

    def __init__(self, probability: float, seed: int) -> None:
        self.dropout = Dropout(probability, seed)
        self.x: torch.Tensor | None = None

    def start(self, step: int, packing: Packing | None) -> None:
        """Begins a micro-batch, packed or, as None, padded."""
        self.dropout.start(step, 0)
        self.packing = packing
        self.x = None

    def of(self, x: torch.Tensor) -> torch.Tensor:
        if x is not self.x:
            self.x, self.mask = x, torch.zeros_like(x)
            if self.packing is None:
                self.mask += self.dropout(x)[1]
            else:
                shared, own = self.packing.shared, self.packing.own
                mask = self.dropout(self.packing.select(x))[1]
                assert mask is not None
                self.mask[:, :shared] = mask[0, :shared]
                self.mask[:, shared:][own] = mask[0, shared : len(mask[0]) - self.packing.filler]
        return self.mask * self.dropout.scale


class SameDropout(nn.Module):
    """Stands in for PEFT's dropout with the masks of ours."""

    def __init__(self, masks: SameMasks) -> None:
        super().__init__()
        self.masks = masks

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.masks.of(x)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_loss_and_gradients_equal_pefts(
    family: str,
    dropout: float,
    tiny_bases: Callable[[str], Bases],
    tiny_directory: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    base = tiny_bases(family).get("tiny")
    adapter = random_adapter(base, new_config(LoraConfig(rank=4, dropout=dropout), TARGETS, base.card.identity))
    rows = batch()
    packing = lay_out(rows, last=True)
    assert (packing.shared, len(packing.groups)) == (8, 3)
    adapter.dropout = Dropout(dropout, 11)
    adapter.dropout.start(0, 0)
    with adapter.attached():
        loss = summed_loss(base.logits(rows, base.head(base.encoder)), rows.labels, 0.1)
        loss.backward()

    adapter.save(tmp_path)
    plain = transformers.AutoModelForCausalLM.from_pretrained(
        tiny_directory(family), dtype=torch.float32, attn_implementation="eager"
    )
    model = peft.PeftModel.from_pretrained(plain, tmp_path, is_trainable=True)
    if dropout:
        masks = SameMasks(dropout, 11)
        masks.start(0, packing)
        for module in model.modules():
            if isinstance(module, peft.tuners.lora.LoraLayer):
                module.lora_dropout["default"] = SameDropout(masks)
    attention_mask = (torch.arange(rows.tokens.shape[1]) < rows.lengths[:, None]).long()
    logits = model(input_ids=rows.tokens, attention_mask=attention_mask).logits
    answers = logits[torch.arange(4), rows.lengths - 1][:, list(base.encoder.label_token_ids)]
    expected = summed_loss(answers, rows.labels, 0.1)
    expected.backward()

    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    theirs = {name.replace(".default", ""): parameter for name, parameter in model.named_parameters()}
    for name, parameter in adapter.parameters.items():
        wanted, found = theirs[name].grad, parameter.grad
        assert wanted is not None
        assert found is not None
        assert wanted.norm() > 0
        assert ((found - wanted).norm() / wanted.norm()).item() < 1e-5, name


def test_targets_that_read_one_input_share_its_mask() -> None:
    dropout = Dropout(0.25, -7)
    dropout.start(0, 0)
    x = torch.ones(64, 64)
    kept, mask = dropout(x)
    assert dropout(x)[0] is kept
    assert mask is not None
    assert 0.7 < mask.mean().item() < 0.8
    assert (kept.mean() * dropout.scale).item() == pytest.approx(1, abs=0.05)
    other = torch.ones(64, 64)
    assert not torch.equal(dropout(other)[0], kept)
    dropout.start(0, 0)
    assert torch.equal(dropout(x)[0], kept)
    dropout.start(0, 1)
    assert not torch.equal(dropout(x)[0], kept)


def test_the_base_is_bare_but_while_attached(tiny_bases: Callable[[str], Bases]) -> None:
    base = tiny_bases("llama").get("tiny")
    names = [name for name, _ in base.model.named_modules()]
    attributes = set(vars(base.model))
    head = base.head(base.encoder)
    bare = base.logits(batch(), head)
    one = random_adapter(base, new_config(LoraConfig(rank=2), ("q_proj",), base.card.identity))
    two = random_adapter(base, new_config(LoraConfig(rank=4), ("q_proj", "up_proj"), base.card.identity))
    assert [name for name, _ in base.model.named_modules()] == names
    with one.attached():
        first = base.logits(batch(), head)
    with two.attached():
        assert not torch.equal(base.logits(batch(), head), first)
    with one.attached():
        assert torch.equal(base.logits(batch(), head), first)
    assert torch.equal(base.logits(batch(), head), bare)
    assert set(vars(base.model)) == attributes
    assert not any(parameter.requires_grad for parameter in base.model.parameters())


def test_files_are_the_same_bytes_and_load_again(tiny_bases: Callable[[str], Bases], tmp_path: Path) -> None:
    base = tiny_bases("qwen2").get("tiny")
    head = base.head(base.encoder)
    adapter = random_adapter(base, new_config(LoraConfig(rank=4), TARGETS, base.card.identity))
    digests = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        adapter.save(tmp_path / name)
        files = sorted((tmp_path / name).iterdir())
        assert [file.name for file in files] == ["adapter_config.json", "adapter_model.safetensors"]
        digests.append(hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest())
    assert digests[0] == digests[1]
    loaded = load_adapter(base.model, tmp_path / "a")
    with adapter.attached():
        expected = base.logits(batch(), head)
    with loaded.attached():
        assert torch.equal(base.logits(batch(), head), expected)


def test_a_child_computes_what_its_parent_did(tiny_bases: Callable[[str], Bases], tmp_path: Path) -> None:
    base = tiny_bases("llama").get("tiny")
    head = base.head(base.encoder)
    parent = random_adapter(base, new_config(LoraConfig(rank=2, alpha=16), ("q_proj",), base.card.identity))
    parent.save(tmp_path)
    grown = LoraConfig(rank=5, alpha=7)
    child = Adapter(base.model, new_config(grown, ("q_proj", "v_proj"), base.card.identity))
    child.initialise(9)
    child.continue_from(tmp_path)
    with parent.attached():
        expected = base.logits(batch(), head)
    with child.attached():
        assert torch.allclose(base.logits(batch(), head), expected, rtol=1e-5, atol=1e-5)
    for shrunk, targets in ((LoraConfig(rank=1), ("q_proj",)), (LoraConfig(rank=2), ("v_proj",))):
        lesser = Adapter(base.model, new_config(shrunk, targets, base.card.identity))
        with pytest.raises(TrainerError) as caught:
            lesser.continue_from(tmp_path)
        assert caught.value.reason == "CONTINUE_FROM_SHRINKS"


def test_an_adapter_of_another_base_is_refused(tiny_bases: Callable[[str], Bases], tmp_path: Path) -> None:
    base = tiny_bases("llama").get("tiny")
    adapter = random_adapter(base, new_config(LoraConfig(rank=4), ("q_proj",), base.card.identity))
    for parameter in adapter.parameters.values():
        parameter.data = parameter.data[:, :3].contiguous()
    adapter.save(tmp_path)
    with pytest.raises(TrainerError) as caught:
        load_adapter(base.model, tmp_path)
    assert caught.value.reason == "ADAPTER_MISMATCH"


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_mlps_and_rotations_of_every_family_are_known(family: str, tiny_bases: Callable[[str], Bases]) -> None:
    model = tiny_bases(family).get("tiny").model
    mlps = [module for module in model.modules() if hasattr(module, "gate_proj")]
    assert len(mlps) == 3
    assert all("forward" in vars(module) for module in mlps)
    assert sys.modules[type(model).__module__].apply_rotary_pos_emb.__module__ == rotary.__name__


def test_rotation_and_its_gradient_are_those_of_the_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 5, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    # Halves that differ, which real angles' don't, so that no mistake hides.
    cos, sin = torch.randn(2, 1, 1, 5, 8, generator=generator, dtype=torch.float64).unbind(0)
    expected = x * cos + torch.cat([-x[..., 4:], x[..., :4]], dim=-1) * sin
    assert torch.allclose(rotary.Rotate.apply(x, cos, sin), expected)
    assert torch.autograd.gradcheck(lambda x: rotary.Rotate.apply(x, cos, sin), (x,))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_norms_of_every_family_are_known(family: str, tiny_bases: Callable[[str], Bases]) -> None:
    base = tiny_bases(family).get("tiny")
    norms = [module for module in base.model.modules() if type(module).__name__.endswith("RMSNorm")]
    assert norms
    assert all("forward" in vars(module) for module in norms)


def test_a_small_update_survives_rounding() -> None:
    x, weight = torch.ones(1, 64).bfloat16(), torch.ones(4096, 64).bfloat16()
    a, b = torch.full((1, 64), 1 / 64), torch.linspace(0, 0.1, 4096).unsqueeze(1)
    spread = torch.randn(4096, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    y = FusedLora.apply(x, weight + spread, None, a, b, 1.0, x, None)
    bare = torch.nn.functional.linear(x, weight + spread)
    # The base gives about 64, where bfloat16 has steps of a half.
    assert float((y - bare).float().mean()) == pytest.approx(0.05, abs=0.01)


def test_norm_gradient() -> None:
    x = torch.randn(3, 4, 16, requires_grad=True)
    weight = torch.rand(16)
    grad = torch.randn_like(x)
    RmsNorm.apply(x, weight, 1e-5, torch.float32).backward(grad)
    found, x.grad = x.grad, None
    (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * weight).backward(grad)
    assert found is not None
    assert x.grad is not None
    assert torch.allclose(found, x.grad, rtol=1e-4, atol=1e-6)
