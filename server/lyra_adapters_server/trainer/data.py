"""Rows as tokens, the order they are trained in, and micro-batches of like lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol

import numpy as np
import torch

from lyra_adapters_server.trainer.prompt import Encoded
from lyra_adapters_server.types import LABELS, Pair, Sample

# Steps whose rows are sorted by length together. More saves padding, fewer leaves the order more random.
_STEPS_SORTED_TOGETHER = 8

# What a micro-batch costs beside its tokens, in tokens: the interpreter's share, and that small products are slow.
# Measured on two cores: 110 tokens take 246 ms, 880 take 870 ms.
_MICRO_BATCH_OVERHEAD = 128


class TextEncoder(Protocol):
    """How pairs become tokens for one base model: a prompt, or the tokenizer's own pair encoding."""

    def encode(self, pairs: Sequence[tuple[str, str]], max_length: int) -> list[Encoded]:
        """Tokenises premises and hypotheses, cutting the ends of premises until the sequences fit."""
        ...

    def describe(self) -> dict[str, object]:
        """What prompt.json says of it."""
        ...


@dataclass(frozen=True)
class Row:
    """A tokenised sample. `types` is empty, or says of each token which text it belongs to."""

    tokens: tuple[int, ...]
    label: int
    truncated: bool
    types: tuple[int, ...] = ()
    # Of the row's loss.
    weight: float = 1.0
    # The probabilities that it is to have, where they are not all its label's.
    target: tuple[float, float, float] | None = None
    # What the layers below an adapter give of it, where that is kept: (tokens, width).
    lower: torch.Tensor | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Batch:
    """Rows padded on the right to the longest. Causal attention never looks at what follows, so it needs no mask.

    Attributes:
        tokens: (rows, positions), int64.
        lengths: (rows), int64.
        labels: (rows), int64, indices into LABELS.
        token_count: Tokens without padding.
        types: (rows, positions), int64, or None where the rows have none.
        weights: (rows), float32, or None where every row weighs 1.
        targets: (rows, 3), float32, or None where every row has its label alone.
    """

    tokens: torch.Tensor
    lengths: torch.Tensor
    labels: torch.Tensor
    token_count: int
    types: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    targets: torch.Tensor | None = None

    @property
    def mask(self) -> torch.Tensor:
        """(rows, positions), int64: 1 for tokens, 0 for padding."""
        return (torch.arange(self.tokens.shape[1], device=self.tokens.device) < self.lengths[:, None]).long()


def encode_rows(samples: Sequence[Sample], encoder: TextEncoder, max_length: int) -> list[Row]:
    """Tokenises samples once, cutting premises that do not fit in `max_length` tokens."""
    index = {label: position for position, label in enumerate(LABELS)}
    encoded = encoder.encode([(sample.premise, sample.hypothesis) for sample in samples], max_length)
    return [
        Row(tuple(found.ids), index[sample.correct_label], found.truncated, tuple(found.types))
        for sample, found in zip(samples, encoded, strict=True)
    ]


def encode_pairs(pairs: Sequence[Pair], encoder: TextEncoder, max_length: int) -> list[Row]:
    """As encode_rows, for pairs whose label is not known; the rows' label means nothing."""
    encoded = encoder.encode([(pair.premise, pair.hypothesis) for pair in pairs], max_length)
    return [Row(tuple(found.ids), 0, found.truncated, tuple(found.types)) for found in encoded]


def make_batch(rows: Sequence[Row], padding: int, device: torch.device) -> Batch:
    """Pads rows into one batch on the device, with the token `padding`."""
    lengths = [len(row.tokens) for row in rows]
    types = _padded([row.types for row in rows], 0).to(device) if any(row.types for row in rows) else None
    return Batch(
        _padded([row.tokens for row in rows], padding).to(device),
        torch.tensor(lengths).to(device),
        torch.tensor([row.label for row in rows]).to(device),
        sum(lengths),
        types,
        torch.tensor([row.weight for row in rows]).to(device) if any(row.weight != 1.0 for row in rows) else None,
        torch.tensor([_target(row) for row in rows]).to(device) if any(row.target for row in rows) else None,
    )


def _target(row: Row) -> tuple[float, ...]:
    return row.target or tuple(float(index == row.label) for index in range(len(LABELS)))


def _padded(rows: Sequence[tuple[int, ...]], padding: int) -> torch.Tensor:
    found = torch.full((len(rows), max(map(len, rows))), padding, dtype=torch.int64)
    for index, row in enumerate(rows):
        found[index, : len(row)] = torch.tensor(row)
    return found


def training_order(lengths: Sequence[int], epochs: int, batch_size: int, seed: int) -> list[list[int]]:
    """Fixes which rows each optimizer step sees.

    The epochs, each in an order of its own, follow one another without a gap, so that every step but the last of all
    has exactly `batch_size` rows. Steps are then sorted by length among a few neighbours, which saves most padding.

    Args:
        lengths: Tokens of each row.
        epochs: How often each row is seen.
        batch_size: Rows per step.
        seed: Of the orders.

    Returns:
        The row indices of each step.
    """
    # numpy takes no negative seeds.
    seed %= 1 << 64
    stream = np.concatenate([np.random.default_rng([seed, epoch]).permutation(len(lengths)) for epoch in range(epochs)])
    sizes = np.asarray(lengths)
    steps: list[list[int]] = []
    span = batch_size * _STEPS_SORTED_TOGETHER
    for chunk, start in enumerate(range(0, len(stream), span)):
        rows = stream[start : start + span]
        # The rest that does not fill a step stays at the very end.
        whole = len(rows) - len(rows) % batch_size
        full = rows[:whole][np.argsort(sizes[rows[:whole]], kind="stable")].reshape(-1, batch_size)
        shuffled = np.random.default_rng([seed, epochs, chunk]).permutation(len(full))
        steps += [full[index].tolist() for index in shuffled]
        if whole < len(rows):
            steps.append(rows[whole:].tolist())
    return steps


def split_by_length(lengths: Sequence[int], budget: int, *, packed: bool = False) -> list[list[int]]:
    """Splits rows into micro-batches of like lengths, at the least cost in tokens.

    Args:
        lengths: Tokens of each row.
        budget: Tokens a micro-batch may have; a longer row stands alone.
        packed: Whether rows lie end to end, so that padding counts for nothing.

    Returns:
        The row indices of each micro-batch, shortest rows first.
    """
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    before = [0, *accumulate(lengths[index] for index in order)]

    def tokens(start: int, end: int) -> int:
        return before[end] - before[start] if packed else (end - start) * lengths[order[end - 1]]

    # best[end] is the least cost of the first `end` rows in order, and where the last micro-batch of that split starts.
    best: list[tuple[int, int]] = [(0, 0)]
    for end in range(1, len(order) + 1):
        options = [(best[end - 1][0] + tokens(end - 1, end) + _MICRO_BATCH_OVERHEAD, end - 1)]
        start = end - 2
        while start >= 0 and tokens(start, end) <= budget:
            options.append((best[start][0] + tokens(start, end) + _MICRO_BATCH_OVERHEAD, start))
            start -= 1
        best.append(min(options))
    batches: list[list[int]] = []
    end = len(order)
    while end:
        start = best[end][1]
        batches.append(order[start:end])
        end = start
    return batches[::-1]
