"""Rows end to end instead of padded: everything that looks at one token at a time computes no padding.

The model gets one sequence of all rows' tokens, and each token's position in its own row. Words that all rows of a
causal model begin with, such as a prompt's, stand there once and are computed once. Only attention has to know which
tokens belong together: it is computed for groups of rows that are nearly as long as each other, padded in the copy that
its products need anyway. Padding to the longest of all would cost that one's square for each row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers.masking_utils import eager_mask

from lyra_adapters_server.trainer.data import Batch
from lyra_adapters_server.trainer.kernels import ops
from lyra_adapters_server.trainer.places import Places

# Rows share a group while the squares of their lengths differ by less. A group of its own costs a dozen calls in each
# layer, as much time as about this many scores of all heads.
_SQUARES_APART = 64 * 64
# A product of a shape that has not been met lately takes up to a millisecond more on CPU, until oneDNN has made it. So
# tokens are filled up, and groups are widened, to a multiple of these; then most shapes have been met. Small models
# gain most: their products take little longer than that.
_TOKENS_AT_ONCE = 32
_WIDTHS_AT_ONCE = 16
# Words that rows begin with are computed once if that saves so many tokens; it costs a group of its own.
_WORTH_SHARING = 16


class Group(NamedTuple):
    """Rows that attention pads to one length.

    Attributes:
        rows: How many.
        before: Tokens that all rows share, and that these look at before their own.
        width: Own tokens of the longest.
        there: (rows, width), bool: where a token is.
        is_padded: Whether there is not one everywhere.
    """

    rows: int
    before: int
    width: int
    there: torch.Tensor
    is_padded: bool


class Packing:
    """Where the tokens of some rows are: those that all share, then each row's own, end to end.

    Attributes:
        shared: Tokens that all rows begin with.
        filler: Tokens at the end that are of no row, and that nobody reads.
        width: Tokens of the longest row, as wide as its group.
        groups: Of rows for attention; the shared tokens, if there are any, are the first.
        queries: Each group's own tokens, padded.
        keys: The tokens that they look at: the shared ones, then their own.
        own: (rows, longest - shared), bool: whether a row has a token there, behind the shared ones.
        positions: (1, tokens), int64: of each token in its row.
        ends: (rows), int64: the place after each row's last token.
        layout: The same, as compiled kernels take it.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device, shared: int = 0) -> None:
        """Takes the rows' lengths, and how many tokens at their beginnings are the same in all; each has one more."""
        self.shared, longest = shared, max(lengths)
        self.width = shared + _up(longest - shared, _WIDTHS_AT_ONCE)
        sizes = torch.tensor(lengths) - shared
        ends = shared + sizes.cumsum(0)
        own = torch.arange(longest - shared) < sizes[:, None]
        positions = torch.arange(shared, longest).expand(len(lengths), -1)[own]
        first = torch.arange(shared)
        self.groups: list[Group] = []
        queries: list[torch.Tensor] = []
        keys: list[torch.Tensor] = []
        if shared:
            self.groups.append(Group(1, 0, shared, torch.ones(1, shared, dtype=torch.bool, device=device), False))
            queries.append(first[None])
            keys.append(first[None])
        for indices in _alike(lengths):
            width, last = _up(lengths[indices[0]] - shared, _WIDTHS_AT_ONCE), sizes[indices, None] - 1
            there = torch.arange(width) <= last
            self.groups.append(Group(len(indices), shared, width, there.to(device), not bool(there.all())))
            # In the place of padding stands the row's last token, whose values are finite.
            queries.append(torch.minimum(torch.arange(width), last) + (ends - sizes)[indices, None])
            keys.append(torch.cat([first.expand(len(indices), -1), queries[-1]], dim=1))
        before = [torch.zeros(1, dtype=torch.int64)] if shared else []
        self.layout = ops.Layout(torch.cat([*before, torch.tensor([shared]), ends]), shared)
        self._judged: list[tuple[torch.Tensor, bool]] = []
        tokens = _up(shared + int(sizes.sum()), _TOKENS_AT_ONCE)
        self.filler = tokens - shared - int(sizes.sum())
        self.queries = Places(queries, tokens, 0, self.filler, device)
        self.keys = Places(keys, tokens, shared, self.filler, device) if shared else self.queries
        self.positions = self.fill(torch.cat([first, positions]).to(device))[None]
        self.own, self.ends, self._sizes = own.to(device), ends.to(device), sizes.to(device)

    def select(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (rows, longest, ...) of padded rows to (1, tokens, ...)."""
        return self.fill(torch.cat([x[0, : self.shared], x[:, self.shared :][self.own]]))[None]

    def fill(self, x: torch.Tensor) -> torch.Tensor:
        """Puts the filler, zeros, behind (tokens of rows, ...)."""
        return torch.cat([x, x.new_zeros(self.filler, *x.shape[1:])])

    def is_causal(self, mask: torch.Tensor) -> bool:
        """Whether a mask that `make_mask` gave hides from each token those that follow it, and no others."""
        # A model has one mask for all layers, or two.
        for known, answer in self._judged:
            if known is mask:
                return answer
        wanted = torch.ones(mask.shape[-2:], dtype=torch.bool, device=mask.device).tril()
        self._judged.append((mask, bool(((mask == 0) == wanted).all())))
        return self._judged[-1][1]

    def read(self, *, last: bool) -> torch.Tensor:
        """(rows), int64: of each row's last token, or of its first own one."""
        return self.ends - 1 if last else self.ends - self._sizes


def _up(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def _alike(lengths: Sequence[int]) -> list[list[int]]:
    """Indices of rows that share a group, the longest first."""
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if groups and lengths[groups[-1][0]] ** 2 - lengths[index] ** 2 < _SQUARES_APART:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _same_beginning(batch: Batch) -> int:
    """How many tokens all rows begin with, if there are enough of them; each row keeps one of its own."""
    rows, shortest = len(batch.tokens), int(batch.lengths.min())
    same = (batch.tokens[:, : shortest - 1] == batch.tokens[:1, : shortest - 1]).all(dim=0)
    count = int(same.long().cumprod(dim=0).sum())
    return count if (rows - 1) * count >= _WORTH_SHARING else 0


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


def lay_out(batch: Batch, *, last: bool) -> Packing:
    """Where the tokens of a batch are when it is run; see `run_packed`."""
    return Packing(batch.lengths.tolist(), batch.tokens.device, _same_beginning(batch) if last else 0)


def run_packed(body: Any, batch: Batch, *, last: bool, first_position: int = 0) -> torch.Tensor:
    """Runs a model's body, whose attention is that of attention.py, on rows end to end.

    Args:
        body: Without its head.
        batch: Rows.
        last: Whether each row's last token is asked for, of a causal model, or its first, of one that looks both ways.
        first_position: What the body calls a row's first position.

    Returns:
        Its hidden states at those tokens: (rows, 1, width).
    """
    packing = lay_out(batch, last=last)
    inputs: dict[str, Any] = {"use_cache": False} if last else {}
    if batch.types is not None:
        inputs["token_type_ids"] = packing.select(batch.types)
    with _use(packing):
        hidden: torch.Tensor = body(
            input_ids=packing.select(batch.tokens),
            # There is no padding. Without this, transformers would look for rows in the positions.
            attention_mask=torch.ones_like(packing.positions),
            position_ids=packing.positions + first_position,
            **inputs,
        ).last_hidden_state
    return hidden[0, packing.read(last=last)][:, None]


def make_mask(**options: Any) -> torch.Tensor | None:
    """The mask that is added to scores, for transformers' AttentionMaskInterface; one for all rows if they are packed.

    Causal attention never looks at the padding behind a row. Where it looks at all of a row, each group's `there` is
    the mask.
    """
    packing = current()
    if packing is not None:
        if options.get("allow_is_bidirectional_skip", False):
            return None
        size = {"q_length": packing.width, "kv_length": packing.width}
        options |= {"batch_size": 1, "attention_mask": None, **size}
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
