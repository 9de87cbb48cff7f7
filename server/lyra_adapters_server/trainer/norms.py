"""Root-mean-square norms with a short backward pass, for any family whose norms prove to be such.

Autograd through transformers' own takes about twice as long and keeps float32 copies of every input.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn


class RmsNorm(torch.autograd.Function):
    """x / rms(x) * weight, computed in float32, with a gradient for x only."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float, scaled_late: bool) -> torch.Tensor:
        """Normalises the last dimension.

        Args:
            ctx: Autograd's context.
            x: (..., width).
            weight: (width); in float32 unless `scaled_late`.
            eps: Added to the mean square.
            scaled_late: Multiply with the weight after rounding to the precision of `x` (Llama), not before (Gemma).
        """
        wide = x.float() if x.dtype != torch.float32 else x.clone()
        square = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_()
        inverse = square.div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        wide.mul_(inverse)
        return wide.to(x.dtype).mul_(weight) if scaled_late else wide.mul_(weight).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Computes the gradient of x."""
        x, weight, inverse = ctx.saved_tensors
        normal = x.float().mul(inverse)
        grad = (grads[0] * weight).float()
        inner = torch.linalg.vecdot(grad, normal).unsqueeze(-1).div_(x.shape[-1])
        return grad.addcmul_(normal, inner, value=-1).mul_(inverse).to(x.dtype), None, None, None


def speed_up_norms(model: nn.Module) -> int:
    """Replaces the forward passes of a frozen model's norms, where ours provably gives the same.

    Returns:
        How many were replaced.
    """
    count = 0
    for module in model.modules():
        forward = _ours(module)
        if forward is not None:
            module.forward = forward
            count += 1
    return count


def _ours(module: nn.Module) -> Any:
    weight = getattr(module, "weight", None)
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if not type(module).__name__.endswith("RMSNorm") or not isinstance(weight, torch.Tensor) or eps is None:
        return None
    # Families differ in where they round and in what the weight is added to, and a new one may differ in more: the
    # original's answer decides.
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(4, weight.shape[-1], generator=generator).to(weight.device, weight.dtype)
    with torch.no_grad():
        expected = module(probe).float()
        for effective, late in ((weight.detach(), True), (1 + weight.detach().float(), False)):
            forward = functools.partial(_forward, effective, float(eps), late)
            # One rounding step of bfloat16 is allowed: sums in another order fall on its other side now and then.
            if torch.allclose(forward(probe).float(), expected, rtol=2**-7, atol=1e-6):
                return forward
    return None


def _forward(weight: torch.Tensor, eps: float, scaled_late: bool, x: torch.Tensor) -> torch.Tensor:
    # torch leaves `apply` untyped.
    y: torch.Tensor = RmsNorm.apply(x, weight, eps, scaled_late)  # type: ignore[no-untyped-call]
    return y
