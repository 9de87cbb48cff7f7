"""A base's answers as float32 arithmetic gives them, at about three times the cost of bfloat16's and in its memory.

A base in bfloat16 has exact weights: they are what its files hold. What bfloat16 rounds is all that flows between them.
While a model is told to be exact, float32 flows instead. On a CPU that multiplies bfloat16 fast, a product with a
weight takes it as the sum of two bfloat16 numbers (as in Henry, Tang and Heinecke, "Leveraging the bfloat16 artificial
intelligence datatype for higher-precision computations", 2019), and since results are rounded too, what the first
product's rounding took away is computed by a second one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from lyra_adapters_server.trainer.devices import cpu_multiplies_bfloat16


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
    if weight.dtype == torch.bfloat16 and x.device.type == "cpu" and cpu_multiplies_bfloat16():
        y = _in_parts(x.reshape(-1, x.shape[-1]), weight).view(*x.shape[:-1], -1)
    else:
        y = F.linear(x, weight.float())
    return y if bias is None else y.add_(bias)


def _in_parts(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    high = x.bfloat16()
    low = (x - high).bfloat16()
    transposed = weight.t()
    rounded = F.linear(high, weight)
    # Sums are kept in float32 within a product: this is what is left of the first, whose leading digits cancel.
    rest = torch.addmm(rounded, high, transposed, beta=-1)
    rest = torch.addmm(rest, low, transposed)
    return rounded.float().add_(rest)
