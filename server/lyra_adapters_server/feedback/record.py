"""Records reviews: ids and digests filled in, then one durable transaction."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from lyra_adapters_server.feedback.merge import content_digest, pair_digest
from lyra_adapters_server.storage import feedback as store
from lyra_adapters_server.storage.database import Database, now_us
from lyra_adapters_server.storage.feedback import NewReview, Outcome
from lyra_adapters_server.types import Sample


@dataclass(frozen=True)
class Review:
    """A review as a caller sent it, checked field by field (protos: Review). `review_time` None: now."""

    sample: Sample
    task_id: str
    domain: str
    review_time: int | None


@dataclass(frozen=True)
class Receipt:
    """What became of each review, and its id."""

    outcomes: list[Outcome]
    ids: list[str]


async def record(database: Database, reviews: Sequence[Review], actor: str, principal: str, owner: str = "") -> Receipt:
    """Stores reviews, all of them or none, as those of `owner`."""
    # On a thread: normalising thousands of texts would hold up every other call.
    new = await asyncio.to_thread(lambda: [prepared(review, actor, principal) for review in reviews])
    outcomes = await database.write(lambda connection: store.record(connection, new, now_us(), owner), "feedback")
    return Receipt(outcomes, [review.sample.id for review in new])


def prepared(review: Review, actor: str, principal: str) -> NewReview:
    """The review as it is stored: an id where it came without one, and its digests."""
    pair = pair_digest(review.sample)
    sample = review.sample
    if not sample.id:
        # With the task: two tasks may review the same pair, each with its own history.
        own = hashlib.sha256(f"{review.task_id}\0{pair}".encode()).hexdigest()[:32]
        sample = sample.model_copy(update={"id": own})
    said = [sample.model_dump(mode="json", exclude={"id"}), review.task_id, review.domain]
    return NewReview(
        sample=sample,
        task_id=review.task_id,
        domain=review.domain,
        actor=actor,
        principal=principal,
        review_time=review.review_time,
        digest=hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32],
        pair=pair,
        content=content_digest(sample, pair),
    )
