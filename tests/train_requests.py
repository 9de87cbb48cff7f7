"""Requests that tests send."""

from __future__ import annotations

from typing import Any

from lyra_adapters.v1 import adapter_service_pb2 as pb
from tiny_base import rows


def samples(count: int = 60) -> list[pb.Sample]:
    """Learnable rows as messages."""
    return [
        pb.Sample(**{key: f"LABEL_{value}" if key.endswith("label") else value for key, value in row.items()})
        for row in rows(count)
    ]


def train_request(adapter: str, count: int = 60, epochs: int = 2, **fields: Any) -> pb.TrainRequest:
    """A short training on learnable rows."""
    training = pb.TrainingConfig(epochs=epochs, learning_rate=0.01)
    return pb.TrainRequest(adapter=adapter, samples=samples(count), training=training, **fields)


def kinds(events: list[pb.TrainEvent]) -> list[str]:
    """The kinds of events, in order."""
    return [event.WhichOneof("event") or "" for event in events]
