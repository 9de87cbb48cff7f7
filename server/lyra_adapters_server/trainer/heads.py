"""From hidden states to three logits, a loss and probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


class Head(Protocol):
    """Three logits from the last layer's hidden states."""

    def __call__(self, hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Maps (rows, positions, width) and the rows' lengths (rows) to float32 logits (rows, 3)."""
        ...


class AnswerTokenHead:
    """The three label words' rows of a causal model's output matrix, at the answer's position only.

    The other rows and positions never enter the loss, and computing them would cost vocabulary x positions.
    """

    def __init__(self, rows: torch.Tensor, softcap: float | None = None) -> None:
        """Takes the label words' output rows.

        Args:
            rows: (3, width), in the order of LABELS.
            softcap: Logits are squashed into (-softcap, softcap), as Gemma 2 does; None leaves them.
        """
        self._rows = rows.detach().float()
        self._softcap = softcap

    def __call__(self, hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """See Head."""
        last = hidden[torch.arange(hidden.shape[0], device=hidden.device), lengths - 1]
        # In float32: bfloat16 has steps of an eighth at the size of such logits.
        logits = F.linear(last.float(), self._rows)
        if self._softcap is not None:
            logits = torch.tanh(logits / self._softcap) * self._softcap
        return logits


class ClassifierHead:
    """The classification head of an encoder: its modules in turn, from the first position to three outputs."""

    def __init__(self, modules: Sequence[nn.Module], label_indices: Sequence[int]) -> None:
        """Takes the head.

        Args:
            modules: In float32 and in evaluation mode; each takes what the one before it gives.
            label_indices: The output of each label, in the order of LABELS.
        """
        self._modules = modules
        self._indices = list(label_indices)

    def __call__(self, hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """See Head."""
        del lengths
        # Every family's head reads the first position alone; the others need no copy in float32.
        found = hidden[:, :1].float()
        for module in self._modules:
            found = module(found)
        return found[:, self._indices]


def summed_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    label_smoothing: float = 0.0,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross entropy in nats, summed over the rows (weighted), so that micro-batches of unequal size add up.

    Args:
        logits: (rows, 3).
        labels: (rows), indices into LABELS, or (rows, 3), the probabilities of each.
        label_smoothing: Probability spread over all labels.
        weights: (rows); None: every row weighs 1.
    """
    if weights is None:
        return F.cross_entropy(logits, labels, reduction="sum", label_smoothing=label_smoothing)
    return (F.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing) * weights).sum()


def probabilities(logits: torch.Tensor) -> list[tuple[float, float, float]]:
    """The softmax over the three labels, computed in float64 so that each row sums to 1 as Python adds."""
    rows = torch.softmax(logits.detach().double().cpu(), dim=-1).tolist()
    return [(row[0], row[1], row[2]) for row in rows]
