"""Root-mean-square norms with a short backward pass, for any family whose norms prove to be such.

Autograd through transformers' own takes about twice as long and keeps float32 copies of every input.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

from lyra_adapters_server.trainer.kernels import ops
from lyra_adapters_server.trainer.precision import Precision


class RmsNorm(torch.autograd.Function):
    """x / rms(x) * weight, computed in float32, with a gradient for x only."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype) -> torch.Tensor:
        """Normalises the last dimension.

        Args:
            ctx: Autograd's context.
            x: (..., width).
            weight: (width), float32.
            eps: Added to the mean square.
            dtype: Of the result.
        """
        ctx.compiled = dtype == torch.bfloat16 and ops.takes_stream(x)
        if ctx.compiled:
            y, inverse = ops.rms_norm(x, weight, eps)
            ctx.save_for_backward(x, weight, inverse)
            return y
        wide = x.float()
        square = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_()
        inverse = square.div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        # What float() made is ours to change; what was float32 before is not.
        normal = wide.mul(inverse) if wide is x else wide.mul_(inverse)
        return normal.mul_(weight).to(dtype)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Computes the gradient of x."""
        x, weight, inverse = ctx.saved_tensors
        if ctx.compiled:
            return ops.rms_norm_backward(grads[0].contiguous(), x, weight, inverse), None, None, None
        normal = x.float().mul(inverse)
        grad = (grads[0] * weight).float()
        inner = torch.linalg.vecdot(grad, normal).unsqueeze(-1).div_(x.shape[-1])
        return grad.addcmul_(normal, inner, value=-1).mul_(inverse).to(x.dtype), None, None, None


def speed_up_norms(model: nn.Module, precision: Precision) -> bool:
    """Replaces the forward passes of a frozen model's norms, where ours provably gives the same.

    Args:
        model: The model.
        precision: Of what they give.

    Returns:
        Whether every norm of the model was replaced; each then takes any precision.
    """
    every = True
    for module in model.modules():
        forward = _ours(module, precision)
        if forward is not None:
            module.forward = forward
        elif type(module).__name__.endswith("Norm"):
            every = False
    return every


def _ours(module: nn.Module, precision: Precision) -> Any:
    weight = getattr(module, "weight", None)
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if not type(module).__name__.endswith("RMSNorm") or not isinstance(weight, torch.Tensor) or eps is None:
        return None
    # Families differ in what the weight is added to (Gemma: to one), and a new one may differ in more: the original's
    # answer decides.
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(4, weight.shape[-1], generator=generator).to(weight.device, weight.dtype)
    with torch.no_grad():
        expected = module(probe).float()
        for effective in (weight.detach().float(), 1 + weight.detach().float()):
            forward = functools.partial(_forward, effective, float(eps), precision)
            # One rounding step of bfloat16 is allowed: families round in several places, and ours once.
            if torch.allclose(forward(probe).float(), expected, rtol=2**-7, atol=1e-6):
                return forward
    return None


def _forward(weight: torch.Tensor, eps: float, precision: Precision, x: torch.Tensor) -> torch.Tensor:
    # torch leaves `apply` untyped.
    y: torch.Tensor = RmsNorm.apply(x, weight, eps, precision.dtype)  # type: ignore[no-untyped-call]
    return y
