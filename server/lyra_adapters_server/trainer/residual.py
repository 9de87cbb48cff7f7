"""The residual stream in float32, while every product stays in the base's precision.

Each layer adds little to a large sum. In bfloat16, with 8 bits, each of these sums loses a part of what the layers and
a young adapter have to say; in float32 it costs next to nothing, for only norms and additions see it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def widen_residual(model: nn.Module) -> None:
    """Makes a decoder's hidden states float32 between its layers.

    Args:
        model: A causal model of transformers whose norms are all RmsNorm of norms.py: they narrow the stream again.
    """
    embeddings: Any = model.get_input_embeddings()  # type: ignore[operator]  # transformers' models have it
    dtype = embeddings.weight.dtype
    if dtype == torch.float32:
        return
    embeddings.register_forward_hook(_widen)
    for module in model.modules():
        # Else queries and keys would follow the stream's precision, which these take for theirs.
        if type(module).__name__.endswith("RotaryEmbedding"):
            module.register_forward_hook(_narrow_to(dtype))


def _widen(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
    return output.float()


def _narrow_to(dtype: torch.dtype) -> Any:
    def narrow(_module: nn.Module, _inputs: Any, output: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return tuple(part.to(dtype) for part in output)

    return narrow
