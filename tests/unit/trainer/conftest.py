"""Tiny random base models of each family, with a tokenizer, made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.spec import BaseModelConfig, WorkerConfig
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

# Tiny products gain nothing from threads, and wait long for each other on a busy machine.
torch.set_num_threads(1)

WORDS = " yes no maybe Premise Claim Answer the premise support claim cats sleep dogs run fish swim " * 20
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
}
FAMILIES: dict[str, tuple[type, type, dict[str, Any]]] = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM, {}),
    "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM, {"sliding_window": 8}),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM, {}),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM, {}),
    "gemma": (transformers.GemmaConfig, transformers.GemmaForCausalLM, {}),
    "gemma2": (transformers.Gemma2Config, transformers.Gemma2ForCausalLM, {"sliding_window": 8}),
    "gemma3_text": (transformers.Gemma3TextConfig, transformers.Gemma3ForCausalLM, {"sliding_window": 8}),
}


def tiny_tokenizer() -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([WORDS], trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def save_tiny_model(directory: Path, family: str, seed: int = 0) -> None:
    config_class, model_class, extra = FAMILIES[family]
    tokenizer = tiny_tokenizer()
    torch.manual_seed(seed)
    config = config_class(
        **SHAPE, **extra, vocab_size=len(tokenizer) + 16, pad_token_id=0, bos_token_id=1, eos_token_id=2
    )
    model = model_class(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Away from the usual start, where norms are all ones and biases zero, so that mistakes show.
            parameter.add_(torch.randn_like(parameter) * (0.1 if "norm" in name or "bias" in name else 0.02))
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            made[family] = tmp_path_factory.mktemp(family)
            save_tiny_model(made[family], family)
        return made[family]

    return make


@pytest.fixture
def tiny_bases(tiny_directory: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Bases]:
    def make(family: str) -> Bases:
        base = BaseModelConfig(alias="tiny", source=str(tiny_directory(family)))
        return Bases(WorkerConfig(bases=(base,), device="cpu", dtype="float32", cache_dir=str(tmp_path / "cache")))

    return make
