"""Which recorded reviews a training takes."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from lyra_adapters_server.storage.feedback_queries import FeedbackFilter, candidates, samples_of
from lyra_adapters_server.types import Sample

# Most rows of one training, sent or recorded: what a job's row and the worker's messages are made for.
MAX_SAMPLES = 20_000
MAX_SAMPLE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class FeedbackSource:
    """What to train on (protos: FeedbackSource)."""

    chosen: FeedbackFilter
    only_new: bool = False


@dataclass(frozen=True)
class Selected:
    """The reviews, oldest first, so that merging keeps the newest; and how many were too many."""

    samples: list[Sample]
    left_out: int


def select_feedback(connection: Connection, source: FeedbackSource, adapter: str) -> Selected:
    """The newest revisions of the reviews that the source means.

    With `only_new` a pair is left out whole where its newest review has been used by a version of the adapter: an
    older review of it that says otherwise was overruled, and is not new.
    """
    pairs: set[str] = set()
    used: set[str] = set()
    numbers: list[int] = []
    size = left_out = 0
    full = False
    for review in candidates(connection, source.chosen, adapter):
        if review.pair not in pairs:
            pairs.add(review.pair)
            if source.only_new and review.used:
                used.add(review.pair)
        if review.pair in used:
            continue
        # Once full it stays full: what is left out is the oldest, not the longest.
        full = full or len(numbers) >= MAX_SAMPLES or size + review.size > MAX_SAMPLE_BYTES
        if full:
            left_out += 1
            continue
        size += review.size
        numbers.append(review.number)
    numbers.reverse()
    return Selected(samples_of(connection, numbers), left_out)
