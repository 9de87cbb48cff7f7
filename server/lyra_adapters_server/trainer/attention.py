"""Attention on CPU, registered with transformers under a name of ours, so that every family uses it.

Against transformers' own plain attention: rows of one length or nearly so are computed together (see packing.py), the
query heads that share a key head are one product (nothing is repeated), all operands are contiguous (the batched
product is several times slower otherwise), and the scores are changed in place. Its backward pass is a few products,
where the fused kernel's is slower in bfloat16.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn

from lyra_adapters_server.trainer.kernels import ops
from lyra_adapters_server.trainer.packing import Group, Packing, current, make_mask

NAME = "lyra_grouped"


class GroupedAttention(torch.autograd.Function):
    """softmax(scale * q k^T + mask) v of packed rows, where groups of query heads share a key and value head."""

    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        mask: torch.Tensor | None,
        scale: float,
        packing: Packing,
    ) -> torch.Tensor:
        """Computes the attention.

        Args:
            ctx: Autograd's context.
            q: (1, heads, tokens, width).
            k: (1, key_heads, tokens, width).
            v: As `k`.
            mask: (1, 1, longest row, longest row), added to the scores of every row; None: each looks at all of itself.
            scale: Of the scores.
            packing: How rows lie end to end in `q`, `k` and `v`.

        Returns:
            (1, tokens, heads, width).
        """
        heads, key_heads = q.shape[1], k.shape[1]
        own, seen = packing.queries, packing.keys
        q, k, v = own.pad(q), seen.pad(k), seen.pad(v)
        mixed = torch.empty_like(q)
        kept = []
        for number, group in enumerate(packing.groups):
            keys = seen.part(k, number, key_heads)
            scores = torch.bmm(own.part(q, number, key_heads), keys.transpose(1, 2))
            kept.append(torch.softmax(_scale_and_mask(scores, mask, scale, group), dim=-1))
            torch.bmm(kept[-1], seen.part(v, number, key_heads), out=own.part(mixed, number, key_heads))
        ctx.save_for_backward(q, k, v, *kept)
        ctx.heads, ctx.key_heads, ctx.scale, ctx.packing = heads, key_heads, scale, packing
        return own.pack(mixed, heads)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Computes the gradients of q, k and v."""
        q, k, v, *kept = ctx.saved_tensors
        heads, key_heads, scale, packing = ctx.heads, ctx.key_heads, ctx.scale, ctx.packing
        own, seen = packing.queries, packing.keys
        grad = own.pad(grads[0].transpose(1, 2))
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        for number, (group, weights) in enumerate(zip(packing.groups, kept, strict=True)):
            given = own.part(grad, number, key_heads)
            if group.is_padded:
                # What stands in the place of padding is the gradient of nothing.
                given.view(group.rows, heads, group.width, -1).mul_(group.there[:, None, :, None])
            # Transposing the narrow operand, and the narrow result back, is cheaper than a product with the wide one
            # transposed.
            found = torch.bmm(given.transpose(1, 2).contiguous(), weights)
            seen.part(grad_v, number, key_heads).copy_(found.transpose(1, 2))
            grad_scores = torch.ops.aten._softmax_backward_data(
                torch.bmm(given, seen.part(v, number, key_heads).transpose(1, 2)), weights, -1, weights.dtype
            )
            torch.bmm(grad_scores, seen.part(k, number, key_heads), out=own.part(grad_q, number, key_heads))
            found = torch.bmm(own.part(q, number, key_heads).transpose(1, 2).contiguous(), grad_scores)
            torch.mul(found.transpose(1, 2), scale, out=seen.part(grad_k, number, key_heads))
        found_q = own.pack(grad_q.mul_(scale), heads)
        found_k, found_v = seen.pack_gradient(grad_k, key_heads), seen.pack_gradient(grad_v, key_heads)
        return found_q.transpose(1, 2), found_k.transpose(1, 2), found_v.transpose(1, 2), None, None, None


class CompiledAttention(torch.autograd.Function):
    """As GroupedAttention, by one compiled kernel, of rows that look at all of themselves or at what came before."""

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, packing: Packing, causal: bool
    ) -> torch.Tensor:
        """Computes the attention; see GroupedAttention."""
        ctx.save_for_backward(q, k, v)
        ctx.scale, ctx.packing, ctx.causal = scale, packing, causal
        return ops.attention(q, k, v, packing.layout, scale, causal=causal)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Computes the gradients of q, k and v."""
        q, k, v = ctx.saved_tensors
        grad = grads[0].contiguous()
        found = ops.attention_backward(grad, q, k, v, ctx.packing.layout, ctx.scale, causal=ctx.causal)
        return *found, None, None, None


def _scale_and_mask(scores: torch.Tensor, mask: torch.Tensor | None, scale: float, group: Group) -> torch.Tensor:
    """Changes a group's scores in place: (rows * key_heads, heads / key_heads * width, before + width)."""
    end = group.before + group.width
    by_head = scores.mul_(scale).view(group.rows, -1, group.width, end)
    if mask is not None:
        by_head.add_(mask[..., group.before : end, :end])
    elif group.is_padded:
        by_head.masked_fill_(~group.there[:, None, None, :], torch.finfo(scores.dtype).min)
    return scores


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
    """The function that transformers calls for each layer; see its AttentionInterface.

    Raises:
        RuntimeError: If the model is not run by `run_packed`.
    """
    del module, dropout  # The base is frozen and in evaluation mode.
    packing = current()
    if packing is None:
        raise RuntimeError("this attention is for packed rows")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    causal = attention_mask is not None
    fits = softcap is None and ops.heads_lie_well(query, key, value)
    # A mask is looked at only where the kernel could do without it.
    if fits and (attention_mask is None or packing.is_causal(attention_mask)):
        # torch leaves `apply` untyped.
        found: torch.Tensor = CompiledAttention.apply(query, key, value, scale, packing, causal)  # type: ignore[no-untyped-call]
        return found, None
    if attention_mask is not None:
        # It is made in the precision of the residual stream.
        attention_mask = attention_mask.to(query.dtype)
    if softcap is None:
        # torch leaves `apply` untyped.
        mixed: torch.Tensor = GroupedAttention.apply(query, key, value, attention_mask, scale, packing)  # type: ignore[no-untyped-call]
        return mixed, None
    return _capped(query, key, value, attention_mask, scale, softcap, packing), None


def _capped(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    softcap: float,
    packing: Packing,
) -> torch.Tensor:
    """As GroupedAttention, with scores that can't exceed a bound, as Gemma 2 has them."""
    heads, key_heads = q.shape[1], k.shape[1]
    own, seen = packing.queries, packing.keys
    q, k, v = own.pad(q), seen.pad(k), seen.pad(v)
    mixed = []
    for number, group in enumerate(packing.groups):
        keys = seen.part(k, number, key_heads)
        scores = torch.bmm(own.part(q, number, key_heads), keys.transpose(1, 2)) * (scale / softcap)
        scores = torch.tanh(scores) * softcap
        weights = torch.softmax(_scale_and_mask(scores, mask, 1.0, group), dim=-1, dtype=torch.float32)
        mixed.append(torch.bmm(weights.to(q.dtype), seen.part(v, number, key_heads)).view(-1, q.shape[-1]))
    return own.pack(torch.cat(mixed), heads)


def register() -> None:
    """Makes the attention known to transformers, with the additive mask that its own plain attention takes."""
    transformers.AttentionInterface.register(NAME, grouped_attention)
    transformers.AttentionMaskInterface.register(NAME, make_mask)
