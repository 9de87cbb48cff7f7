"""Rows end to end instead of padded: everything that looks at one token at a time computes no padding.

The model gets one sequence of all rows' tokens, and each token's position in its own row. Only attention has to know
which tokens belong together: attention.py pads queries, keys and values, in the copy that its products need anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers.masking_utils import eager_mask

from lyra_adapters_server.trainer.data import Batch


class Packing:
    """Where the tokens of some rows are, end to end and padded.

    Attributes:
        rows: How many rows.
        width: Tokens of the longest.
        tokens: Tokens of all.
        mask: (rows, width), bool: whether there is a token.
        positions: (1, tokens), int64: of each token in its row.
        ends: (rows), int64: the place after each row's last token.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        """Takes the rows' lengths."""
        self.rows, self.width, self.tokens = len(lengths), max(lengths), sum(lengths)
        sizes = torch.tensor(lengths)
        self.mask = (torch.arange(self.width) < sizes[:, None]).to(device)
        self.ends = sizes.cumsum(0).to(device)
        self._sizes = sizes.to(device)
        # (rows, width): which token; in the place of padding the row's last, whose values are finite.
        within = torch.minimum(torch.arange(self.width), sizes[:, None] - 1).to(device)
        self._token = within + (self.ends - self._sizes)[:, None]
        self.positions = torch.arange(self.width, device=device).expand(self.rows, -1)[self.mask][None]
        self._indices: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def pad(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (1, heads, tokens, width of a head) to contiguous (rows, heads, width, width of a head)."""
        heads, size = x.shape[1], x.shape[3]
        flat = x.transpose(1, 2).reshape(-1, size)
        return flat.index_select(0, self._index(heads)[0]).view(self.rows, heads, self.width, size)

    def pack(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (rows, heads, width, width of a head) to contiguous (1, tokens, heads, width of a head)."""
        heads, size = x.shape[1], x.shape[3]
        return x.reshape(-1, size).index_select(0, self._index(heads)[1]).view(1, self.tokens, heads, size)

    def _index(self, heads: int) -> tuple[torch.Tensor, torch.Tensor]:
        # Of padded places among the packed ones, and the other way round; each place is one head of one token.
        if heads not in self._indices:
            head = torch.arange(heads, device=self.mask.device)
            there = (self._token[:, None, :] * heads + head[None, :, None]).reshape(-1)
            row = torch.arange(self.rows, device=self.mask.device)[:, None].expand(-1, self.width)[self.mask]
            back = (row[:, None] * heads + head[None, :]) * self.width + self.positions[0][:, None]
            self._indices[heads] = there, back.reshape(-1)
        return self._indices[heads]

    def read(self, *, last: bool) -> torch.Tensor:
        """(rows), int64: of each row's last token, or of its first."""
        return self.ends - 1 if last else self.ends - self._sizes


_current: Packing | None = None


def current() -> Packing | None:
    """How the rows lie that the model is run on now; None: padded."""
    return _current


@contextmanager
def _use(packing: Packing) -> Iterator[None]:
    global _current
    # Something else may be computed between two layers, and that between two of its own.
    before, _current = _current, packing
    try:
        yield
    finally:
        _current = before


def run_packed(body: Any, batch: Batch, *, last: bool, first_position: int = 0) -> torch.Tensor:
    """Runs a model's body, whose attention is that of attention.py, on rows end to end.

    Args:
        body: Without its head.
        batch: Rows.
        last: Whether each row's last token is asked for, or its first.
        first_position: What the body calls a row's first position.

    Returns:
        Its hidden states at those tokens: (rows, 1, width).
    """
    packing = Packing(batch.lengths.tolist(), batch.tokens.device)
    inputs: dict[str, Any] = {"use_cache": False} if last else {}
    if batch.types is not None:
        inputs["token_type_ids"] = batch.types[packing.mask][None]
    with _use(packing):
        hidden: torch.Tensor = body(
            input_ids=batch.tokens[packing.mask][None],
            # There is no padding. Without this, transformers would look for rows in the positions.
            attention_mask=torch.ones_like(packing.positions),
            position_ids=packing.positions + first_position,
            **inputs,
        ).last_hidden_state
    return hidden[0, packing.read(last=last)][:, None]


def make_mask(**options: Any) -> torch.Tensor | None:
    """The mask that is added to scores, for transformers' AttentionMaskInterface; that of padded rows if packed."""
    packing = current()
    if packing is not None:
        # Causal attention never looks at the padding behind a row, so all rows have one mask.
        causal = not options.get("allow_is_bidirectional_skip", False)
        options |= {
            "batch_size": 1 if causal else packing.rows,
            "q_length": packing.width,
            "kv_length": packing.width,
            "attention_mask": None if causal else packing.mask,
        }
    mask: torch.Tensor | None = eager_mask(**options)
    return mask


def skip_what_nobody_reads(holder: Any, name: str, parts: Sequence[nn.Module], *, last: bool) -> None:
    """Makes a function of the last layer compute the tokens alone that a head reads, while rows are packed.

    Args:
        holder: What has the function.
        name: The function's name; it maps (1, tokens, width) to the same shape, each token by itself.
        parts: The modules that it runs. While an adapter changes one of them, all tokens are computed.
        last: Whether heads read each row's last token, or its first.
    """
    whole = getattr(holder, name)

    def narrow(x: torch.Tensor) -> torch.Tensor:
        packing = current()
        if packing is None or any(hasattr(module, "lora_A") for part in parts for module in part.modules()):
            found: torch.Tensor = whole(x)
            return found
        read = packing.read(last=last)
        y: torch.Tensor = whole(x.index_select(1, read))
        return y.new_zeros(x.shape).index_copy(1, read, y)

    setattr(holder, name, narrow)
