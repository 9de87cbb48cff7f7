"""In bfloat16 the residual stream stays float32, which brings a base's answers closer to its exact ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from conftest import FAMILIES
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.data import Batch
from lyra_adapters_server.trainer.packing import run_packed
from lyra_adapters_server.trainer.spec import BaseModelConfig, WorkerConfig

TOKENS = torch.randint(3, 300, (32, 24), generator=torch.Generator().manual_seed(0))


def hidden_of(directory: Path, dtype: torch.dtype) -> torch.Tensor:
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval()
    with torch.no_grad():
        found: torch.Tensor = model.base_model(input_ids=TOKENS).last_hidden_state
    return found[:, -1:].float()


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_closer_to_float32_than_plain_transformers(
    family: str, tiny_directory: Callable[[str], Path], tmp_path: Path
) -> None:
    config = BaseModelConfig(alias="tiny", source=str(tiny_directory(family)))
    base = Bases(WorkerConfig(bases=(config,), device="cpu", dtype="bfloat16", cache_dir=str(tmp_path))).get("tiny")
    seen: dict[str, torch.dtype] = {}
    layers = base.model.get_submodule("model.layers")
    layers[1].register_forward_pre_hook(lambda _, inputs: seen.update(stream=inputs[0].dtype))
    layers[1].self_attn.q_proj.register_forward_pre_hook(lambda _, inputs: seen.update(product=inputs[0].dtype))
    lengths = torch.full((len(TOKENS),), TOKENS.shape[1])
    rows = Batch(TOKENS, lengths, torch.zeros_like(lengths), TOKENS.numel())
    with torch.no_grad():
        ours = run_packed(base.model.base_model, rows, last=True).float()
    assert seen == {"stream": torch.float32, "product": torch.bfloat16}
    exact = hidden_of(tiny_directory(family), torch.float32)
    plain = hidden_of(tiny_directory(family), torch.bfloat16)
    assert (ours - exact).abs().mean() < (plain - exact).abs().mean()
