"""Recorded reviews, and counts of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lyra_adapters.models.base import Model
from lyra_adapters.models.samples import Review


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedReview(Model):
    """A review as the server keeps it: its newest revision.

    Attributes:
        review: The review, with its id and its time.
        revision: Which revision this is, from 1.
        actor: Who reviewed, as the caller said.
        record_time: When this revision was recorded.
        used_by: Full names of the versions that used this pair with this label, for training or held out.
        superseded: Whether a newer review of the same pair takes its place in training.
        principal: Who, as proven to the server; `anonymous` where it asks nobody.
    """

    review: Review
    revision: int = 0
    actor: str = ""
    record_time: datetime | None = None
    used_by: tuple[str, ...] = ()
    superseded: bool = False
    principal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedFeedback(Model):
    """What DeleteFeedback deleted.

    Attributes:
        reviews: Reviews, each with all its revisions.
        job_rows: Rows that were kept with finished jobs.
    """

    reviews: int = 0
    job_rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackCount(Model):
    """How many have a name: a label's word, a task, a domain, or a version's full name. Empty: none was given."""

    name: str = ""
    count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackSummary(Model):
    """Counts of recorded reviews.

    Attributes:
        reviews: Reviews, the newest revision of each.
        revisions: Revisions, older ones included.
        samples: Pairs: what is left after the newest review of each pair was taken.
        corrections: Samples whose original label is known and was wrong.
        confirmations: Samples whose original label is known and was right.
        labels: Samples by their label.
        tasks: Reviews by task, the largest first, at most 100.
        domains: Reviews by domain, the largest first, at most 100.
        versions: Reviews used, by version, newest version first, at most 100.
        first_review_time: When the oldest was reviewed.
        last_review_time: When the newest was reviewed.
    """

    reviews: int = 0
    revisions: int = 0
    samples: int = 0
    corrections: int = 0
    confirmations: int = 0
    labels: tuple[FeedbackCount, ...] = ()
    tasks: tuple[FeedbackCount, ...] = ()
    domains: tuple[FeedbackCount, ...] = ()
    versions: tuple[FeedbackCount, ...] = ()
    first_review_time: datetime | None = None
    last_review_time: datetime | None = None
