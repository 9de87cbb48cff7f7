"""A base's answers as float32 arithmetic gives them, at about twice the cost of bfloat16's and in its memory.

A base whose files hold bfloat16 has exact weights. What bfloat16 rounds then is all that flows between them.
While a model is told to be exact, float32 flows instead, and a weight becomes float32 for the time of its product.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


class Precision:
    """What flows through a model.

    Attributes:
        dtype: Of what norms and rotary embeddings give: that of the weights, or float32 meanwhile.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        """Takes the precision of the weights."""
        self.dtype = dtype

    @contextmanager
    def exact(self) -> Iterator[None]:
        """Lets float32 flow, for forward passes without gradients."""
        usual, self.dtype = self.dtype, torch.float32
        try:
            yield
        finally:
            self.dtype = usual


def take_float32(model: nn.Module) -> None:
    """Makes the linear layers of a frozen model take float32 too, whatever the precision of their weights."""
    for module in model.modules():
        if type(module) is nn.Linear:
            # The next line hides the class's own method for this one module, which mypy sees as an error.
            module.forward = functools.partial(linear, module)  # type: ignore[method-assign]


def linear(module: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """A linear layer in the precision of its weights, or exactly where the input is float32 and they are not.

    Args:
        module: Frozen, with `weight` (outputs, inputs) and `bias` (outputs) or None.
        x: (..., inputs).

    Returns:
        (..., outputs), in the precision of `x`.
    """
    weight, bias = module.weight, module.bias
    if x.dtype == weight.dtype:
        return F.linear(x, weight, bias)
    if x.device.type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        # F.linear gives float32 to MKL, which was half as fast as oneDNN on the AMD EPYC that this was measured on.
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight.float(), None, "none", [], "")
    else:
        y = F.linear(x, weight.float())
    return y if bias is None else y.add_(bias)
