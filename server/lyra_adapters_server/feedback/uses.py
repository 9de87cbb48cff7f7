"""Which rows a version used: what makes a review new, or not, to an adapter."""

from __future__ import annotations

from collections.abc import Iterable

from lyra_adapters_server.feedback.merge import content_digest
from lyra_adapters_server.storage.feedback import SampleUse
from lyra_adapters_server.types import Sample


def uses_of(training: Iterable[Sample], held_out: Iterable[Sample]) -> list[SampleUse]:
    """The rows of a job as they are remembered with its version: sent, recorded and general ones alike."""
    sides = ((training, False), (held_out, True))
    return [SampleUse(row.id, content_digest(row), side) for rows, side in sides for row in rows]
