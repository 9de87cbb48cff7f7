"""Published adapters made with numpy alone: what the other forms are made from."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

PROMPT = {
    "name": "plain",
    "template": "Premise: {premise}\nClaim: {hypothesis}\nAnswer:",
    "label_words": {"SUPPORTS": " yes", "REFUTES": " no", "NEUTRAL": " maybe"},
    "label_token_ids": {"SUPPORTS": 5, "REFUTES": 6, "NEUTRAL": 7},
    "add_special_tokens": True,
    "max_length": 512,
}
PREFIX = "base_model.model."


def publish(
    directory: Path,
    *,
    prompt: dict[str, Any] | None = None,
    extra: dict[str, NDArray[np.float32]] | None = None,
    ranks: tuple[int, int] = (4, 4),
    modules: tuple[str, str] = ("model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"),
    **config: Any,
) -> Path:
    """Writes an adapter of two modules, (16, 8) and (8, 12), of one layer; returns its directory."""
    directory.mkdir(parents=True)
    random = np.random.default_rng(0)
    tensors = dict(extra or {})
    for module, rank, (outputs, inputs) in zip(modules, ranks, ((16, 8), (8, 12)), strict=True):
        tensors[f"{PREFIX}{module}.lora_A.weight"] = random.standard_normal((rank, inputs), np.float32)
        tensors[f"{PREFIX}{module}.lora_B.weight"] = random.standard_normal((outputs, rank), np.float32)
    save_file(tensors, directory / "adapter_model.safetensors")
    written = {"peft_type": "LORA", "r": 4, "lora_alpha": 16, "base_model_name_or_path": "org/base", **config}
    (directory / "adapter_config.json").write_text(json.dumps(written))
    (directory / "prompt.json").write_text(json.dumps(prompt or PROMPT))
    return directory


def base_config(model_type: str = "qwen2", **changes: Any) -> Any:
    """What of a base's configuration the forms look at."""
    values = {
        "model_type": model_type,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    }
    return SimpleNamespace(**{**values, **changes})
