"""Tiny random causal models of each family, with answers far from even, and adapters that change them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny_base import make_tiny_base

SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.1,
}
WIDE: dict[str, Any] = {"head_dim": 32}
GEMMA: dict[str, Any] = {**WIDE, "query_pre_attn_scalar": 32, "sliding_window": 24}
# Class names' stem in transformers, and what is changed. Gemma 3 mixes two kinds of layers, one in six of the other.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "mistral": ("Mistral", {**WIDE, "sliding_window": None, "tie_word_embeddings": False}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", WIDE),
    "gemma": ("Gemma", WIDE),
    "gemma2": ("Gemma2", GEMMA),
    "gemma3_text": ("Gemma3", {**GEMMA, "num_hidden_layers": 6}),
}
ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def make_tiny_causal(directory: Path, family: str, seed: int = 0) -> Path:
    """Writes a model of a family with the tokenizer of tiny_base."""
    import torch
    import transformers

    make_tiny_base(directory)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    stem, changes = FAMILIES[family]
    config_class = getattr(transformers, f"{stem}TextConfig" if family == "gemma3_text" else f"{stem}Config")
    config = config_class(
        **{**SHAPE, **changes}, vocab_size=len(tokenizer), pad_token_id=1, bos_token_id=0, eos_token_id=1
    )
    torch.manual_seed(seed)
    model = getattr(transformers, f"{stem}ForCausalLM")(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Away from the usual start, where norms are all ones and biases zero, so that mistakes show.
            if "norm" in name or "bias" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
        model.get_output_embeddings().weight.mul_(3)
    model.save_pretrained(directory)
    return directory


def make_adapter(
    directory: Path, base: Path, *, spread: float = 0.15, seed: int = 1, targets: list[str] | None = None, **lora: Any
) -> Path:
    """Writes an adapter with random A and B, and the prompt.json of a published version, by PEFT itself."""
    import peft
    import torch
    import transformers
    from lyra_adapters_server.trainer.prompt import DEFAULT_PROMPT, PromptEncoder
    from lyra_adapters_server.trainer.score import write_prompt

    options = {"r": 4, "lora_alpha": 16, "target_modules": targets or ALL_LINEAR, "task_type": "CAUSAL_LM", **lora}
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(seed)
    adapted = peft.get_peft_model(model, peft.LoraConfig(**options))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn_like(parameter) * spread)
    adapted.save_pretrained(directory)
    write_prompt(directory, PromptEncoder(DEFAULT_PROMPT, transformers.AutoTokenizer.from_pretrained(base)), 256)
    return directory


def reference_probabilities(
    base: Path, rows: list[dict[str, str]], adapter: Path | None, prompt_from: Path | None = None
) -> tuple[list[list[int]], list[int], list[list[float]]]:
    """Token ids, the labels' tokens, and label probabilities by transformers and peft alone, in float32."""
    import peft
    import torch
    import transformers

    prompt = json.loads(((adapter or prompt_from or base) / "prompt.json").read_text(encoding="utf-8"))
    labels = [prompt["label_token_ids"][label] for label in ("SUPPORTS", "REFUTES", "NEUTRAL")]
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter:
        model = peft.PeftModel.from_pretrained(model, adapter)
    model.eval()
    tokens: list[list[int]] = []
    found: list[list[float]] = []
    with torch.inference_mode():
        for row in rows:
            text = prompt["template"].format(premise=row["premise"], hypothesis=row["hypothesis"])
            ids = tokenizer(text, add_special_tokens=prompt["add_special_tokens"])["input_ids"]
            logits = model(torch.tensor([ids])).logits[0, -1, labels].double()
            tokens.append(ids)
            found.append(torch.softmax(logits, 0).tolist())
    return tokens, labels, found
