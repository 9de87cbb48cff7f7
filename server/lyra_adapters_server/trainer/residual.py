"""The residual stream in float32, while every product stays in the base's precision.

Each layer adds little to a large sum. In bfloat16, with 8 bits, each of these sums loses a part of what the layers and
a young adapter have to say; in float32 it costs next to nothing, for only norms and additions see it.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from lyra_adapters_server.trainer.precision import Precision


def widen_residual(model: nn.Module, precision: Precision) -> None:
    """Makes a decoder's hidden states float32 between its layers.

    Args:
        model: A causal model of transformers whose norms are all RmsNorm of norms.py: they narrow the stream again.
        precision: What they narrow it to.
    """
    embeddings: Any = model.get_input_embeddings()  # type: ignore[operator]  # transformers' models have it
    if embeddings.weight.dtype == torch.float32:
        return
    embeddings.register_forward_hook(functools.partial(_widen, precision))
    for module in model.modules():
        # Else queries and keys would follow the stream's precision, which these take for theirs.
        if type(module).__name__.endswith("RotaryEmbedding"):
            module.register_forward_hook(functools.partial(_narrow, precision))


def _widen(precision: Precision, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> Any:
    scale = getattr(module, "scalar_embed_scale", None)
    if scale is None or precision.dtype != torch.float32:
        return output.float()
    # Gemma's embeddings are multiplied with a number that bfloat16 rounds.
    return F.embedding(inputs[0], module.weight).float() * scale  # type: ignore[arg-type]  # an embedding's is a tensor


def _narrow(
    precision: Precision, _module: nn.Module, _inputs: Any, output: tuple[torch.Tensor, ...]
) -> tuple[torch.Tensor, ...]:
    return tuple(part.to(precision.dtype) for part in output)
