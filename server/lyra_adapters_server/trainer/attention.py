"""Attention on CPU, registered with transformers under a name of ours, so that every family uses it.

Against transformers' own plain attention: the query heads that share a key head are one product (nothing is
repeated), all operands are contiguous (the batched product is several times slower otherwise), and the scores are
changed in place. Its backward pass is a few products, where the fused kernel's is slower in bfloat16.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn

from lyra_adapters_server.trainer.packing import Packing, current, make_mask

NAME = "lyra_grouped"


class GroupedAttention(torch.autograd.Function):
    """softmax(scale * q k^T + mask) v, where groups of query heads share a key and value head."""

    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        mask: torch.Tensor | None,
        scale: float,
        packing: Packing | None,
    ) -> torch.Tensor:
        """Computes the attention.

        Args:
            ctx: Autograd's context.
            q: (batch, heads, positions, width).
            k: (batch, key_heads, positions, width).
            v: As `k`.
            mask: (batch or 1, 1, positions, positions), added to the scores, or None.
            scale: Of the scores.
            packing: How rows lie end to end in `q`, `k` and `v`, whose batch is then 1; None: each is of its own.

        Returns:
            (batch, positions, heads, width).
        """
        if packing is not None:
            q, k, v = packing.pad(q), packing.pad(k), packing.pad(v)
        batch, heads, positions, width = q.shape
        key_heads = k.shape[1]
        pairs = batch * key_heads
        shape = (batch, key_heads, heads // key_heads, positions)
        q = q.reshape(pairs, -1, width)
        k = k.reshape(pairs, positions, width)
        v = v.reshape(pairs, positions, width)
        scores = torch.bmm(q, k.transpose(1, 2))
        if mask is None:
            scores.mul_(scale)
        else:
            grouped = scores.view(*shape, positions)
            torch.add(mask.unsqueeze(2), grouped, alpha=scale, out=grouped)
        weights = torch.softmax(scores, dim=-1)
        mixed = torch.bmm(weights, v)
        ctx.save_for_backward(q, k, v, weights)
        ctx.scale, ctx.shape, ctx.packing = scale, shape, packing
        if packing is not None:
            return packing.pack(mixed.view(batch, heads, positions, width))
        return mixed.view(*shape, width).permute(0, 3, 1, 2, 4).reshape(batch, positions, heads, width)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Computes the gradients of q, k and v."""
        q, k, v, weights = ctx.saved_tensors
        batch, key_heads, group, positions = ctx.shape
        width, packing = v.shape[-1], ctx.packing
        if packing is not None:
            # What stands in the place of padding is the gradient of nothing.
            padded = packing.pad(grads[0].transpose(1, 2)).mul_(packing.mask[:, None, :, None])
            grad = padded.view(batch * key_heads, group * positions, width)
        else:
            split = grads[0].view(batch, positions, key_heads, group, width).permute(0, 2, 3, 1, 4)
            grad = split.reshape(batch * key_heads, group * positions, width)
        # Transposing the narrow operand, and the narrow result back, is cheaper than a product with the wide one
        # transposed.
        grad_v = torch.bmm(grad.transpose(1, 2).contiguous(), weights).transpose(1, 2)
        grad_scores = torch.ops.aten._softmax_backward_data(
            torch.bmm(grad, v.transpose(1, 2)), weights, -1, weights.dtype
        )
        grad_q = torch.bmm(grad_scores, k).mul_(ctx.scale)
        grad_k = torch.bmm(q.transpose(1, 2).contiguous(), grad_scores).mul_(ctx.scale).transpose(1, 2)
        keys = (batch, key_heads, positions, width)
        found = grad_q.view(batch, key_heads * group, positions, width), grad_k.view(keys), grad_v.view(keys)
        if packing is not None:
            found = tuple(packing.pack(grad).transpose(1, 2) for grad in found)
        return (*found, None, None, None)


def grouped_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """The function that transformers calls for each layer; see its AttentionInterface."""
    del module, dropout  # The base is frozen and in evaluation mode.
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    if attention_mask is not None:
        # It is made in the precision of the residual stream.
        attention_mask = attention_mask.to(query.dtype)
    packing = current()
    if softcap is None:
        # torch leaves `apply` untyped.
        mixed: torch.Tensor = GroupedAttention.apply(query, key, value, attention_mask, scale, packing)  # type: ignore[no-untyped-call]
        return mixed, None
    if packing is not None:
        query, key, value = packing.pad(query), packing.pad(key), packing.pad(value)
    group = query.shape[1] // key.shape[1]
    scores = torch.matmul(query, key.repeat_interleave(group, 1).transpose(2, 3)) * scale
    scores = torch.tanh(scores / softcap) * softcap
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    mixed = torch.matmul(weights, value.repeat_interleave(group, 1))
    return packing.pack(mixed) if packing is not None else mixed.transpose(1, 2).contiguous(), None


def register() -> None:
    """Makes the attention known to transformers, with the additive mask that its own plain attention takes."""
    transformers.AttentionInterface.register(NAME, grouped_attention)
    transformers.AttentionMaskInterface.register(NAME, make_mask)
