"""The kinds of base models, and what can't be read off one."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lyra_adapters_server.trainer import attention


@dataclass(frozen=True)
class Family:
    """What can't be read off a model.

    Attributes:
        targets: The projections that an adapter changes unless told otherwise.
        head: Of an encoder: the modules from the last hidden states to the logits, in order. Empty: a causal model.
        own_attention: Its attention is code of its own, for which transformers offers no choice.
        padding_shifts_positions: Positions are counted from after the padding token's id.
    """

    targets: tuple[str, ...]
    head: tuple[str, ...] = ()
    own_attention: bool = False
    padding_shifts_positions: bool = False

    @property
    def is_encoder(self) -> bool:
        """Whether it reads a pair in both directions and has a head, instead of answering with a word."""
        return bool(self.head)

    def attention(self, device: torch.device) -> str:
        """The attention that is fastest on a device, by transformers' name for it."""
        if self.own_attention:
            return "eager"
        return attention.NAME if device.type == "cpu" else "sdpa"


# The decoder is `base_model`, and the output matrix has no scale of its own, beside Gemma's soft cap.
_CAUSAL = Family(("q_proj", "v_proj"))
_ROBERTA = Family(("query", "value"), head=("classifier",), padding_shifts_positions=True)

# By the configuration's model_type. DeBERTa-v3 is of type deberta-v2.
FAMILIES: dict[str, Family] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"), _CAUSAL),
    "bert": Family(("query", "value"), head=("bert.pooler", "classifier")),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "deberta-v2": Family(("query_proj", "value_proj"), head=("pooler", "classifier"), own_attention=True),
}
