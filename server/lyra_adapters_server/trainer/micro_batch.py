"""One micro-batch: its loss, then its gradients. Each takes about as long as the other; either may exhaust memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lyra_adapters_server.trainer.base import Base
from lyra_adapters_server.trainer.data import Row, make_batch
from lyra_adapters_server.trainer.exhaustion import is_exhaustion, let_frames_go
from lyra_adapters_server.trainer.fused import Dropout
from lyra_adapters_server.trainer.heads import summed_loss
from lyra_adapters_server.trainer.score import Subject


def forward(
    base: Base, subject: Subject, rows: Sequence[Row], dropout: Dropout, label_smoothing: float, *, of: int
) -> torch.Tensor | None:
    """Runs the model on some of a step's rows, `of` in all.

    Returns:
        Their share of the step's mean loss, with the graph behind it; None if memory ran out.
    """
    assert subject.adapter is not None
    subject.adapter.dropout = dropout
    try:
        batch = make_batch(rows, base.padding, base.device)
        states = [row.lower for row in rows if row.lower is not None]
        if len(states) == len(rows):
            base.keep_lower_states(subject.adapter, batch, states)
        with subject.adapter.attached(), torch.enable_grad():
            logits = base.logits(batch, subject.head)
            wanted = batch.labels if batch.targets is None else batch.targets
            return summed_loss(logits, wanted, label_smoothing, batch.weights) / of
    except Exception as error:
        if not is_exhaustion(error):
            raise
        let_frames_go(error)
        return None
    finally:
        subject.adapter.dropout = None
        if subject.adapter.lower_half is not None:
            subject.adapter.lower_half.kept = None


def backward(loss: torch.Tensor) -> float | None:
    """Adds a micro-batch's gradients; returns its loss, None if memory ran out."""
    try:
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    except Exception as error:
        if not is_exhaustion(error):
            raise
        let_frames_go(error)
        return None
    return float(loss.detach())
