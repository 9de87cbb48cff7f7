"""A base in bfloat16 that is told to be exact gives what plain transformers and PEFT give in float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
import transformers
from conftest import FAMILIES
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.data import Row, make_batch
from lyra_adapters_server.trainer.spec import BaseModelConfig, WorkerConfig
from lyra_adapters_server.types import LoraConfig

GENERATOR = torch.Generator().manual_seed(0)
ROWS = [
    Row(tuple(torch.randint(3, 300, (n,), generator=GENERATOR).tolist()), 0, False) for n in (24, 90, 9, 17, 80, 24)
]


# PEFT asks transformers in a way that the latter has given another name since.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("adapted", [False, True])
def test_as_exact_as_float32(family: str, adapted: bool, tiny_directory: Callable[[str], Path], tmp_path: Path) -> None:
    # Its weights are what bfloat16 can hold, as those of published models are.
    source = tmp_path / "source"
    rounded = transformers.AutoModelForCausalLM.from_pretrained(tiny_directory(family), dtype=torch.bfloat16)
    rounded.save_pretrained(source)
    transformers.AutoTokenizer.from_pretrained(tiny_directory(family)).save_pretrained(source)
    config = BaseModelConfig(alias="tiny", source=str(source))
    base = Bases(WorkerConfig(bases=(config,), device="cpu", dtype="bfloat16", cache_dir=str(tmp_path))).get("tiny")
    plain = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    adapter = base.new_adapter(LoraConfig(rank=4), base.linear_names(), 1)
    if adapted:
        for parameter in adapter.parameters.values():
            torch.nn.init.normal_(parameter, std=0.2, generator=GENERATOR)
        (tmp_path / "adapter").mkdir()
        adapter.save(tmp_path / "adapter")
        plain = peft.PeftModel.from_pretrained(plain, tmp_path / "adapter")
    head = base.head(base.encoder)
    words = list(base.encoder.label_token_ids)
    batch = make_batch(ROWS, base.padding, base.device)

    def ours() -> torch.Tensor:
        if adapted:
            with adapter.attached():
                return base.logits(batch, head)
        return base.logits(batch, head)

    with torch.inference_mode():
        rounding = ours()
        with base.exact():
            exact = ours()
        again = ours()
        expected = torch.stack([plain(torch.tensor([row.tokens])).logits[0, -1, words] for row in ROWS])
    assert torch.equal(rounding, again), "it is as it was afterwards"
    error = (exact - expected).abs().max()
    assert error < 1e-4 * expected.abs().max()
    assert error * 20 < (rounding - expected).abs().max(), "the test would not notice"
