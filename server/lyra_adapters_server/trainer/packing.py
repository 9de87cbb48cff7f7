"""Rows end to end instead of padded: everything that looks at one token at a time computes no padding.

The model gets one sequence of all rows' tokens, and each token's position in its own row. Only attention has to know
which tokens belong together: it is computed for groups of rows that are nearly as long as each other, padded in the
copy that its products need anyway. Padding to the longest of all would cost that one's square for each row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers.masking_utils import eager_mask

from lyra_adapters_server.trainer.data import Batch

# Rows share a group while the squares of their lengths differ by less. A group of its own costs a dozen calls in each
# layer, as much time as about this many scores of all heads.
_SQUARES_APART = 64 * 64


class Group(NamedTuple):
    """Rows that attention pads to one length.

    Attributes:
        rows: How many.
        width: Tokens of the longest.
        start: The padded places before it, in all groups.
        token: (rows, width), int64: which; in the place of padding the row's last, whose values are finite.
        there: (rows, width), bool: where a token is.
        is_padded: Whether there is not one everywhere.
    """

    rows: int
    width: int
    start: int
    token: torch.Tensor
    there: torch.Tensor
    is_padded: bool


class Packing:
    """Where the tokens of some rows are, end to end and in padded groups.

    Attributes:
        width: Tokens of the longest.
        groups: Of rows for attention.
        mask: (rows, width), bool: whether there is a token, were they all padded.
        positions: (1, tokens), int64: of each token in its row.
        ends: (rows), int64: the place after each row's last token.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        """Takes the rows' lengths."""
        self.width, self._tokens = max(lengths), sum(lengths)
        sizes = torch.tensor(lengths)
        ends = sizes.cumsum(0)
        self.mask = (torch.arange(self.width) < sizes[:, None]).to(device)
        self.positions = torch.arange(self.width, device=device).expand(len(lengths), -1)[self.mask][None]
        self.ends, self._sizes = ends.to(device), sizes.to(device)
        self.groups: list[Group] = []
        self._places = 0
        for indices in _alike(lengths):
            width, last = lengths[indices[0]], sizes[indices, None] - 1
            there = torch.arange(width) <= last
            token = torch.minimum(torch.arange(width), last) + (ends - sizes)[indices, None]
            group = Group(len(indices), width, self._places, token.to(device), there.to(device), not there.all())
            self.groups.append(group)
            self._places += group.rows * width
        self._indices: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def pad(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (1, heads, tokens, width of a head) to (padded places of all groups * heads, width of a head)."""
        heads, size = x.shape[1], x.shape[3]
        return x.transpose(1, 2).reshape(-1, size).index_select(0, self._index(heads)[0])

    def part(self, flat: torch.Tensor, group: Group, heads: int) -> torch.Tensor:
        """A group's part of what `pad` gives, as a view.

        Args:
            flat: Of as many heads, or of a multiple: those that share one key head then stand behind each other.
            group: Which.
            heads: Of keys.

        Returns:
            (rows * heads, group's width or a multiple of it, width of a head).
        """
        each = len(flat) // self._places
        start, length = group.start * each, group.rows * group.width * each
        return flat[start : start + length].view(group.rows * heads, -1, flat.shape[-1])

    def pack(self, flat: torch.Tensor, heads: int) -> torch.Tensor:
        """Maps what `pad` gives to contiguous (1, tokens, heads, width of a head)."""
        return flat.index_select(0, self._index(heads)[1]).view(1, self._tokens, heads, -1)

    def _index(self, heads: int) -> tuple[torch.Tensor, torch.Tensor]:
        # Of padded places among the packed ones, and the other way round; each place is one head of one token.
        if heads not in self._indices:
            device = self.ends.device
            head = torch.arange(heads, device=device)[:, None]
            of_groups = [group.token[:, None] * heads + head for group in self.groups]
            real = torch.cat(
                [
                    group.there[:, None].expand_as(places).reshape(-1)
                    for group, places in zip(self.groups, of_groups, strict=True)
                ]
            )
            there = torch.cat([places.reshape(-1) for places in of_groups])
            back = torch.empty(self._tokens * heads, dtype=torch.int64, device=device)
            back[there[real]] = torch.arange(len(there), device=device)[real]
            self._indices[heads] = there, back
        return self._indices[heads]

    def read(self, *, last: bool) -> torch.Tensor:
        """(rows), int64: of each row's last token, or of its first."""
        return self.ends - 1 if last else self.ends - self._sizes


def _alike(lengths: Sequence[int]) -> list[list[int]]:
    """Indices of rows that share a group, the longest first."""
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if groups and lengths[groups[-1][0]] ** 2 - lengths[index] ** 2 < _SQUARES_APART:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


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
