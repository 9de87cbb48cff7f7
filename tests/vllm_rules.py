"""What vLLM requires of an adapter, from its published source (v0.32 and v0.33).

- `vllm/plugins/lora_resolvers/filesystem_resolver.py`: the directory's name is the adapter's name in requests;
  `peft_type` is LORA; `base_model_name_or_path` equals the served model's name.
- `vllm/lora/peft_helper.py`: `r`, `lora_alpha` and `target_modules` must be there; plain LoRA only (rsLoRA is
  honoured), with an initialisation that leaves the base's weights as they are; of a causal model no `modules_to_save`.
- `vllm/config/lora.py`: `--max-lora-rank` takes some ranks only, and must not be below the adapter's.
- `vllm/lora/lora_model.py`: the weights lie in `adapter_model.safetensors`; every tensor is a `lora_A` or `lora_B` of a
  module of the model, under `base_model.model.`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from safetensors import safe_open

MAX_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
NOT_TAKEN = (
    *("modules_to_save", "use_dora", "lora_bias", "layer_replication", "use_bdlora", "use_qalora"),
    "alora_invocation_tokens",
)
# What vLLM's models of the Llama, Mistral, Qwen and Gemma families adapt, before it fuses them.
MODULES = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "embed_tokens", "lm_head"}


def violations(directory: Path, served_model: str, adapter_name: str) -> list[str]:
    """What vLLM would refuse, or would silently not find; empty if nothing."""
    found: list[str] = []
    config = json.loads((directory / "adapter_config.json").read_text(encoding="utf-8"))
    missing = {"r", "lora_alpha", "target_modules", "peft_type", "base_model_name_or_path"} - set(config)
    if missing:
        return [f"adapter_config.json lacks {sorted(missing)}"]
    if directory.name != adapter_name:
        found.append(f"the directory is called {directory.name}")
    if config["peft_type"] != "LORA":
        found.append(f"peft_type is {config['peft_type']}")
    if config["base_model_name_or_path"] != served_model:
        found.append(f"base_model_name_or_path is {config['base_model_name_or_path']}")
    if not isinstance(config["r"], int) or config["r"] > max(MAX_LORA_RANKS):
        found.append(f"r is {config['r']}")
    if not isinstance(config["lora_alpha"], (int, float)):
        found.append(f"lora_alpha is {config['lora_alpha']}")
    if not isinstance(config["target_modules"], (list, str)):
        found.append(f"target_modules is {config['target_modules']}")
    found += [f"{key} is {config[key]}" for key in NOT_TAKEN if config.get(key)]
    if config.get("init_lora_weights", True) is not True:
        found.append(f"init_lora_weights is {config['init_lora_weights']}")
    if config.get("bias", "none") != "none":
        found.append(f"bias is {config['bias']}")
    with safe_open(directory / "adapter_model.safetensors", framework="numpy") as weights:
        for name in weights.keys():  # noqa: SIM118 - not a dict
            match = re.fullmatch(r"base_model\.model\.(?:.+\.)?(\w+)\.lora_[AB]\.weight", name)
            if not match or match[1] not in MODULES:
                found.append(f"vLLM has no place for {name}")
    return found
