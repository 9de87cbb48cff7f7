"""Records reviews and keeps their history, inside the caller's transaction. Reading: storage/feedback_queries.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, exists, func, insert, not_, select, tuple_, update
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from lyra_adapters_server.storage.tables import feedback, feedback_revisions, sample_uses
from lyra_adapters_server.types import Sample

T = TypeVar("T")

# Values in one IN list.
CHUNK = 500


class Outcome(StrEnum):
    """What became of a review."""

    STORED = "STORED"
    UNCHANGED = "UNCHANGED"
    REVISED = "REVISED"


@dataclass(frozen=True, slots=True)
class NewReview:
    """A review to record; times in microseconds.

    The digests are made in feedback/record.py: `digest` of all that the caller sent but the time, `pair` of the
    normalised pair, `content` of the pair and its label.
    """

    sample: Sample
    task_id: str
    domain: str
    actor: str
    principal: str
    # None: now.
    review_time: int | None
    digest: str
    pair: str
    content: str


@dataclass(frozen=True, slots=True)
class SampleUse:
    """A row that a version used."""

    sample_id: str
    content: str
    held_out: bool


@dataclass(slots=True)
class _Known:
    """A review as it stands while a request is carried out."""

    number: int
    revision: int
    revisions: int
    digest: str
    review_time: int
    pair: str


def record(connection: Connection, reviews: Sequence[NewReview], now: int, owner: str = "") -> list[Outcome]:
    """Stores reviews one after the other, as those of `owner`; returns what became of each.

    The content of the newest revision, or of any with the same given time: unchanged, so that an import can be
    repeated although a review was revised since. Other content: a revision, which is in force unless one with a later
    review time is.
    """
    known = _known(connection, owner, {review.sample.id for review in reviews})
    history = _history(connection, reviews, known)
    number = int(connection.execute(select(func.coalesce(func.max(feedback.c.number), 0))).scalar_one())
    recorded = int(connection.execute(select(func.coalesce(func.max(feedback.c.recorded), 0))).scalar_one())
    fresh: dict[int, dict[str, Any]] = {}
    changed: dict[int, dict[str, Any]] = {}
    revisions: list[dict[str, Any]] = []
    pairs: set[str] = set()
    outcomes: list[Outcome] = []
    for review in reviews:
        before = known.get(review.sample.id)
        if before and _repeats(review, before, history):
            outcomes.append(Outcome.UNCHANGED)
            continue
        recorded += 1
        if before is None:
            number += 1
            time = now if review.review_time is None else review.review_time
            state = _Known(number, 1, 1, review.digest, time, review.pair)
            fresh[number] = {"owner": owner, "id": review.sample.id, **_row(review, state, recorded)}
            outcomes.append(Outcome.STORED)
        else:
            # Without a time of its own a review is meant to be the newest, whatever the callers' clocks say.
            time = max(now, before.review_time) if review.review_time is None else review.review_time
            revision = before.revisions + 1
            pairs.add(before.pair)
            if time >= before.review_time:
                state = _Known(before.number, revision, revision, review.digest, time, review.pair)
                values = _row(review, state, recorded)
            else:
                state = before
                state.revisions = revision
                values = {"revisions": revision}
            rows = fresh if before.number in fresh else changed
            rows.setdefault(before.number, {}).update(values)
            outcomes.append(Outcome.REVISED)
        known[review.sample.id] = state
        history.add((state.number, review.digest, time))
        pairs.add(review.pair)
        revisions.append(_revision(review, state.number, state.revisions, time, now))
    _write(connection, fresh, changed, revisions)
    mark_newest(connection, pairs)
    return outcomes


def remember_uses(connection: Connection, adapter: str, number: int, uses: Iterable[SampleUse]) -> None:
    """Stores which rows a version used."""
    rows = [
        {
            "adapter": adapter,
            "number": number,
            "sample_id": use.sample_id,
            "content": use.content,
            "held_out": use.held_out,
        }
        for use in uses
    ]
    if rows:
        connection.execute(sqlite_insert(sample_uses).on_conflict_do_nothing(), rows)


def contents_trained_on(connection: Connection, versions: Iterable[tuple[str, int]]) -> set[str]:
    """Content digests of the rows that any of these versions (adapter, number) was trained on, held-out ones not."""
    found: set[str] = set()
    for adapter, number in versions:
        rows = connection.execute(
            select(sample_uses.c.content).where(
                sample_uses.c.adapter == adapter, sample_uses.c.number == number, not_(sample_uses.c.held_out)
            )
        )
        found.update(row.content for row in rows)
    return found


def chunks(values: Iterable[T]) -> Iterator[list[T]]:
    """The values in lists that fit into an IN list."""
    found = list(values)
    for start in range(0, len(found), CHUNK):
        yield found[start : start + CHUNK]


def _known(connection: Connection, owner: str, ids: set[str]) -> dict[str, _Known]:
    found: dict[str, _Known] = {}
    for some in chunks(ids):
        rows = connection.execute(
            select(
                feedback.c.id,
                feedback.c.number,
                feedback.c.revision,
                feedback.c.revisions,
                feedback.c.digest,
                feedback.c.review_time,
                feedback.c.pair,
            ).where(feedback.c.owner == owner, feedback.c.id.in_(some))
        )
        found.update({row.id: _Known(*row[1:]) for row in rows})
    return found


def _history(
    connection: Connection, reviews: Sequence[NewReview], known: dict[str, _Known]
) -> set[tuple[int, str, int]]:
    """Number, digest and time of the revisions that a review with a time of its own could repeat."""
    numbers = {
        before.number
        for review in reviews
        if review.review_time is not None and (before := known.get(review.sample.id)) and before.digest != review.digest
    }
    found: set[tuple[int, str, int]] = set()
    for some in chunks(numbers):
        rows = connection.execute(
            select(feedback_revisions.c.number, feedback_revisions.c.digest, feedback_revisions.c.review_time).where(
                feedback_revisions.c.number.in_(some)
            )
        )
        found.update((row.number, row.digest, row.review_time) for row in rows)
    return found


def _repeats(review: NewReview, before: _Known, history: set[tuple[int, str, int]]) -> bool:
    if review.digest == before.digest:
        return True
    return review.review_time is not None and (before.number, review.digest, review.review_time) in history


def _row(review: NewReview, state: _Known, recorded: int) -> dict[str, Any]:
    sample = review.sample
    return {
        "revision": state.revision,
        "revisions": state.revisions,
        "recorded": recorded,
        "digest": review.digest,
        "task_id": review.task_id,
        "domain": review.domain,
        "review_time": state.review_time,
        "correct_label": sample.correct_label.value,
        "original_label": sample.original_label and sample.original_label.value,
        "pair": review.pair,
        "content": review.content,
        "size": len(sample.premise.encode()) + len(sample.hypothesis.encode()),
    }


def _revision(review: NewReview, number: int, revision: int, time: int, now: int) -> dict[str, Any]:
    sample = review.sample
    return {
        "number": number,
        "revision": revision,
        "digest": review.digest,
        "premise": sample.premise,
        "hypothesis": sample.hypothesis,
        "correct_label": sample.correct_label.value,
        "original_label": sample.original_label and sample.original_label.value,
        "original_confidence": sample.original_confidence,
        "group": sample.group,
        "task_id": review.task_id,
        "domain": review.domain,
        "actor": review.actor,
        "principal": review.principal,
        "review_time": time,
        "record_time": now,
    }


def _write(
    connection: Connection,
    fresh: dict[int, dict[str, Any]],
    changed: dict[int, dict[str, Any]],
    revisions: list[dict[str, Any]],
) -> None:
    if fresh:
        connection.execute(
            insert(feedback), [{"number": number, "newest": False, **row} for number, row in fresh.items()]
        )
    for number, values in changed.items():
        connection.execute(update(feedback).where(feedback.c.number == bindparam("n")).values(**values), {"n": number})
    if revisions:
        connection.execute(insert(feedback_revisions), revisions)


def mark_newest(connection: Connection, pairs: set[str]) -> None:
    """Says anew which review of each pair is the newest."""
    other = feedback.alias("other")
    newer = exists().where(
        other.c.pair == feedback.c.pair,
        tuple_(other.c.review_time, other.c.recorded) > tuple_(feedback.c.review_time, feedback.c.recorded),
    )
    for some in chunks(pairs):
        connection.execute(update(feedback).where(feedback.c.pair.in_(some)).values(newest=not_(newer)))
