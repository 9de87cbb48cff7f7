"""A linear layer with a LoRA update as one autograd function.

Beside PEFT's own forward it multiplies in the base's precision while the adapter's weights stay float32, rounds base
and update once, together, keeps one copy of the dropped-out input for all targets that read the same input, and saves
nothing else of that size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from lyra_adapters_server.trainer.kernels import ops


class Dropout:
    """Dropout masks from a counter: (seed, step, micro-batch) fixes every mask, so there is no state to save.

    The probability is rounded to a multiple of 1/256, since one random byte decides each element.
    """

    def __init__(self, probability: float, seed: int) -> None:
        """Takes the probability (0 to below 1) and the job's seed."""
        self._threshold = min(max(round(probability * 256), 1), 255) if probability > 0 else 0
        # numpy takes no negative seeds.
        self._seed = seed % (1 << 64)
        self._place = (0, 0)
        self._source: Any = None
        self._input: torch.Tensor | None = None
        self._result: tuple[torch.Tensor, torch.Tensor | None] | None = None

    @property
    def scale(self) -> float:
        """What the kept elements must be multiplied with."""
        return 256 / (256 - self._threshold)

    def start(self, step: int, micro_batch: int) -> None:
        """Begins a micro-batch's masks."""
        self._place, self._source = (step, micro_batch), None
        self.finish()

    def finish(self) -> None:
        """Lets go of the last input."""
        self._input = self._result = None

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Drops elements of `x`; asked again for the same tensor, it gives the same result.

        Returns:
            `x` with zeros, not rescaled (see `scale`) and detached, and the mask: 0 or 1, in the precision of `x` or,
            from compiled kernels, in bytes (None: all 1).
        """
        if self._threshold == 0:
            return x.detach(), None
        if self._input is x and self._result is not None:
            return self._result
        random = self._random_bytes(x.numel(), x.device)
        if ops.takes(x):
            kept = ops.drop(x.detach(), random, self._threshold)
            self._input, self._result = x, (kept, random.view(x.shape))
            return self._result
        # In the precision of the input: a product with it is several times faster than filling under a mask.
        mask = (random >= self._threshold).to(x.dtype).view(x.shape)
        self._input, self._result = x, (x.detach() * mask, mask)
        return self._result

    def _random_bytes(self, count: int, device: torch.device) -> torch.Tensor:
        seeds = [self._seed, *self._place]
        if device.type == "cpu":
            # numpy's generator gives eight bytes at the price of one of torch's.
            if self._source is None:
                self._source = np.random.Generator(np.random.SFC64(seeds))
            words = self._source.integers(0, 1 << 64, size=-(-count // 8), dtype=np.uint64)
            return torch.from_numpy(words.view(np.uint8)[:count])
        if self._source is None:
            seed = int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0] >> np.uint64(1))
            self._source = torch.Generator(device).manual_seed(seed)
        return torch.empty(count, dtype=torch.uint8, device=device).random_(0, 256, generator=self._source)


class FusedLora(torch.autograd.Function):
    """y = x W^T + bias + scale * drop(x) A^T B^T, with gradients for x, A and B only."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
        kept: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """Computes y.

        Args:
            ctx: Autograd's context.
            x: (..., inputs).
            weight: (outputs, inputs), frozen.
            bias: (outputs), frozen, or None.
            a: (rank, inputs), float32.
            b: (outputs, rank), float32.
            scale: Of the update, with the dropout's rescaling in it.
            kept: `x` with the dropped elements zeroed, detached.
            mask: 0 where an element was dropped, else 1; None: all 1.

        Returns:
            (..., outputs), in the precision of `x`.
        """
        a_low = a.to(x.dtype)
        b_low = (b * scale).to(x.dtype)
        inner = F.linear(kept, a_low)
        # One product, rounded once. Added to what the base gives, already rounded, a young adapter's update would be
        # lost: most of it is below what bfloat16 can tell apart there.
        y = F.linear(torch.cat([x, inner], dim=-1), torch.cat([weight, b_low], dim=1), bias)
        ctx.scale = scale
        ctx.save_for_backward(weight, kept, mask, inner, a_low, b_low)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Computes the gradients of x, A and B from that of y."""
        weight, kept, mask, inner, a_low, b_low = ctx.saved_tensors
        grad = grads[0]
        flat = grad.reshape(-1, grad.shape[-1])
        grad_inner = flat @ b_low
        grad_b = (flat.t() @ inner.view(-1, inner.shape[-1])).float() * ctx.scale
        grad_a = (grad_inner.t() @ kept.reshape(-1, kept.shape[-1])).float()
        grad_x = None
        if ctx.needs_input_grad[0]:
            if mask is None:
                grad_x = torch.addmm(flat @ weight, grad_inner, a_low)
            elif mask.dtype == torch.uint8:
                grad_x = flat @ weight
                ops.add_kept(grad_x, grad_inner @ a_low, mask)
            else:
                grad_x = (flat @ weight).addcmul_(grad_inner @ a_low, mask.view(-1, kept.shape[-1]))
            grad_x = grad_x.view(kept.shape)
        return grad_x, None, None, grad_a, grad_b, None, None, None
