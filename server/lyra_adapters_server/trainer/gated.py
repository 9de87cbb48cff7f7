"""Gated MLPs as one function: gate and up are one product, and little is kept for the backward pass.

Every causal family has them: down(act(gate(x)) * up(x)). Against transformers' own, the two products that read the
same input are one (and so are their two gradients, with no sum after them), and of the intermediate values only what
both products gave is kept; the rest is computed again for less than it costs to keep.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from lyra_adapters_server.trainer.kernels import ops


@dataclass(frozen=True)
class Activation:
    """A function of single elements, and its gradient: (of the result, input, grad_input=where it is written)."""

    forward: Callable[[torch.Tensor], torch.Tensor]
    backward: Callable[..., torch.Tensor]


_SILU = Activation(F.silu, torch.ops.aten.silu_backward.grad_input)
_ACTIVATIONS = (
    _SILU,
    Activation(
        functools.partial(F.gelu, approximate="tanh"),
        functools.partial(torch.ops.aten.gelu_backward.grad_input, approximate="tanh"),
    ),
    Activation(F.gelu, torch.ops.aten.gelu_backward.grad_input),
)


class GatedMlp(torch.autograd.Function):
    """y = (act(x G^T) * x U^T) D^T, with a gradient for x only."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, gate_and_up: torch.Tensor, down: torch.Tensor, activation: Activation
    ) -> torch.Tensor:
        """Computes y.

        Args:
            ctx: Autograd's context.
            x: (..., inputs).
            gate_and_up: (2 x inner, inputs), frozen.
            down: (outputs, inner), frozen.
            activation: Of the gate.

        Returns:
            (..., outputs).
        """
        both = F.linear(x, gate_and_up)
        ctx.compiled = activation is _SILU and ops.takes(both) and ops.fit(down.shape[1])
        if ctx.compiled:
            inner = ops.silu_gate(both)
        else:
            gate, up = both.chunk(2, dim=-1)
            inner = activation.forward(gate).mul_(up)
        ctx.save_for_backward(both, gate_and_up, down)
        ctx.activation = activation
        return F.linear(inner, down)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Computes the gradient of x."""
        both, gate_and_up, down = ctx.saved_tensors
        grad = grads[0] @ down
        if ctx.compiled:
            return ops.silu_gate_backward(grad, both) @ gate_and_up, None, None, None
        gate, up = both.chunk(2, dim=-1)
        into = torch.empty_like(both)
        into_gate, into_up = into.chunk(2, dim=-1)
        torch.mul(ctx.activation.forward(gate), grad, out=into_up)
        ctx.activation.backward(grad.mul_(up), gate, grad_input=into_gate)
        return into @ gate_and_up, None, None, None


def speed_up_mlps(model: nn.Module) -> None:
    """Replaces the forward passes of a frozen model's gated MLPs, where ours gives the same.

    The weights of gate and up then lie in one tensor, of which each is a view; no memory is added.
    """
    for module in model.modules():
        forward = _ours(module)
        if forward is not None:
            module.forward = forward


def _ours(module: nn.Module) -> Any:
    if not _is_bare(module):
        return None
    parts: Any = module
    gate, up, down = parts.gate_proj, parts.up_proj, parts.down_proj
    activation = _find_activation(getattr(module, "act_fn", None), gate.weight)
    if activation is None:
        return None
    # What the module gives decides: a family may do more between the products.
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(4, gate.in_features, generator=generator).to(gate.weight.device, gate.weight.dtype)
    with torch.no_grad():
        expected = module(probe).float()
        both = torch.cat([gate.weight, up.weight])
        found = GatedMlp.apply(probe, both, down.weight, activation).float()  # type: ignore[no-untyped-call]
    if not torch.allclose(found, expected, rtol=2**-5, atol=2**-6 * float(expected.abs().max())):
        return None
    gate.weight.data, up.weight.data = both[: gate.out_features], both[gate.out_features :]
    return functools.partial(_forward, module, type(module).forward, both, activation)


def _is_bare(module: nn.Module) -> bool:
    # An adapter may have put its layers in the place of some of them.
    linears = [getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    return all(type(linear) is nn.Linear and linear.bias is None for linear in linears)


def _find_activation(wanted: Any, like: torch.Tensor) -> Activation | None:
    if not callable(wanted):
        return None
    points = torch.linspace(-6, 6, 97, device=like.device)
    with torch.no_grad():
        expected = wanted(points)
        return next((one for one in _ACTIVATIONS if torch.allclose(one.forward(points), expected, atol=1e-6)), None)


def _forward(
    module: nn.Module, otherwise: Any, gate_and_up: torch.Tensor, activation: Activation, x: torch.Tensor
) -> torch.Tensor:
    # Where what comes in is more precise than the weights, so shall be what goes out; see precision.py.
    if not _is_bare(module) or x.dtype != gate_and_up.dtype:
        found: torch.Tensor = otherwise(module, x)
        return found
    # torch leaves `apply` untyped.
    y: torch.Tensor = GatedMlp.apply(x, gate_and_up, module.down_proj.weight, activation)  # type: ignore[no-untyped-call, union-attr]
    return y
