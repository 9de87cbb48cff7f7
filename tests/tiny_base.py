"""A base model of a few thousand weights with random values, so that a whole training takes a moment."""

from __future__ import annotations

import json
from pathlib import Path

WORDS = " yes no maybe supports refutes neutral Premise Claim Does the premise support claim Answer or sleep memory"


def make_tiny_base(directory: Path, seed: int = 0, width: int = 32) -> Path:
    """Writes a Llama of two layers with a byte-level tokenizer. A greater width needs more memory."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=["<s>", "</s>"])
    tokenizer.train_from_iterator([WORDS] * 4, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
    )
    directory.mkdir(parents=True, exist_ok=True)
    LlamaForCausalLM(config).save_pretrained(directory)
    fast.save_pretrained(directory)
    return directory


def rows(count: int, *, documents: int = 20) -> list[dict[str, str]]:
    """Rows that a model of any size can learn: a word of the hypothesis gives the label away."""
    words = {"SUPPORTS": "sleep helps memory", "REFUTES": "no sleep", "NEUTRAL": "maybe the claim"}
    labels = list(words)
    made = []
    for number in range(count):
        label = labels[number % 3]
        made.append(
            {
                "id": f"row-{number}",
                "premise": f"The premise number {number} of the document.",
                "hypothesis": f"{words[label]} {number}",
                "correct_label": label,
                "original_label": labels[(number + 1) % 3],
                "group": f"document-{number % documents}",
            }
        )
    return made


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
