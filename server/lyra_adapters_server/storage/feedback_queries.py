"""Reads recorded reviews, inside the caller's transaction: for training, for listing, and counts for Status."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    case,
    distinct,
    exists,
    func,
    literal,
    not_,
    select,
    tuple_,
)

from lyra_adapters_server.scope import Scope
from lyra_adapters_server.storage.feedback import chunks
from lyra_adapters_server.storage.scoped import within
from lyra_adapters_server.storage.tables import feedback, feedback_revisions, sample_uses, versions
from lyra_adapters_server.types import Label, Sample

# Names in each list of a summary.
MAX_COUNTS = 100


@dataclass(frozen=True, slots=True)
class Users:
    """A version, or with `number` None any version of the adapter."""

    adapter: str
    number: int | None = None


@dataclass(frozen=True, slots=True)
class FeedbackFilter:
    """Which reviews; what is empty or None does not filter. Times in microseconds, `before` not included."""

    task_ids: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    reviewed_after: int | None = None
    reviewed_before: int | None = None
    used_by: Users | None = None
    not_used_by: Users | None = None
    # Whose reviews exist; None: everybody's.
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A review that a training may take, without its texts. `used`: a version of the adapter has used it."""

    number: int
    pair: str
    size: int
    used: bool


@dataclass(frozen=True, slots=True)
class RecordedReview:
    """A review's newest revision; times in microseconds."""

    number: int
    sample: Sample
    task_id: str
    domain: str
    review_time: int
    revision: int
    actor: str
    principal: str
    record_time: int
    superseded: bool
    used_by: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class DueCounts:
    """What is there to train on: samples (pairs), those with an original label, those where it was wrong."""

    samples: int
    reviewed: int
    wrong: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts of reviews."""

    reviews: int
    revisions: int
    samples: int
    corrections: int
    confirmations: int
    first_review_time: int | None
    last_review_time: int | None
    labels: list[tuple[str, int]] = field(default_factory=list)
    tasks: list[tuple[str, int]] = field(default_factory=list)
    domains: list[tuple[str, int]] = field(default_factory=list)
    versions: list[tuple[str, int, int]] = field(default_factory=list)


def candidates(connection: Connection, chosen: FeedbackFilter, adapter: str) -> Iterator[Candidate]:
    """The reviews that match, newest first; `used` is about `adapter`."""
    rows = connection.execute(
        select(feedback.c.number, feedback.c.pair, feedback.c.size, _used(Users(adapter)).label("used"))
        .where(*_where(chosen))
        .order_by(feedback.c.review_time.desc(), feedback.c.recorded.desc())
    )
    for row in rows:
        yield Candidate(*row)


def samples_of(connection: Connection, numbers: Sequence[int]) -> list[Sample]:
    """The newest revisions of these reviews, in this order."""
    found: dict[int, Sample] = {}
    for some in chunks(numbers):
        for row in connection.execute(_with_texts().where(feedback.c.number.in_(some))):
            found[row.number] = _sample(row)
    return [found[number] for number in numbers]


def due_counts(connection: Connection, owner: str | None = None) -> DueCounts:
    """What all that is recorded (by `owner`) amounts to, after merging duplicates. Reads no texts."""
    wrong = case((feedback.c.original_label != feedback.c.correct_label, 1), else_=0)
    row = connection.execute(
        select(func.count(), func.count(feedback.c.original_label), func.coalesce(func.sum(wrong), 0)).where(
            _newest(owner)
        )
    ).one()
    return DueCounts(*row)


def used_samples(connection: Connection, owner: str | None = None) -> dict[str, int]:
    """For each adapter, how many of the samples that `due_counts` counts one of its versions has used."""
    used = select(sample_uses.c.adapter, sample_uses.c.content).distinct().subquery()
    # Not a join: asked this way round, SQLite looks at what was used, not at all that is recorded.
    counted = exists().where(feedback.c.content == used.c.content, _newest(owner))
    rows = connection.execute(select(used.c.adapter, func.count()).where(counted).group_by(used.c.adapter))
    return {row[0]: row[1] for row in rows}


def recorded_domains(connection: Connection, owner: str | None = None) -> set[str]:
    """The domains that reviews name."""
    where = [feedback.c.domain != "", *([] if owner is None else [feedback.c.owner == owner])]
    return set(connection.execute(select(feedback.c.domain).distinct().where(*where)).scalars())


def page_of_feedback(
    connection: Connection, chosen: FeedbackFilter, *, before: int | None, limit: int, max_bytes: int
) -> tuple[list[RecordedReview], bool]:
    """Reviews with a number below `before`, newest first, and whether more follow.

    At most `limit`, and fewer where their texts have more than `max_bytes`, but always one.
    """
    where = _where(chosen)
    if before is not None:
        where.append(feedback.c.number < before)
    rows = connection.execute(
        select(feedback.c.number, feedback.c.size).where(*where).order_by(feedback.c.number.desc()).limit(limit + 1)
    ).all()
    taken: list[int] = []
    size = 0
    for row in rows[:limit]:
        size += row.size
        if taken and size > max_bytes:
            break
        taken.append(row.number)
    users = _users_of(connection, taken)
    found: dict[int, RecordedReview] = {}
    for some in chunks(taken):
        for row in connection.execute(_with_texts(chosen.owner).where(feedback.c.number.in_(some))):
            found[row.number] = RecordedReview(
                number=row.number,
                sample=_sample(row),
                task_id=row.task_id,
                domain=row.domain,
                review_time=row.review_time,
                revision=row.revision,
                actor=row.actor,
                principal=row.principal,
                record_time=row.record_time,
                superseded=not row.newest,
                used_by=tuple(users.get(row.number, ())),
            )
    return [found[number] for number in taken], len(taken) < len(rows)


def count_feedback(connection: Connection, chosen: FeedbackFilter) -> int:
    """How many reviews match."""
    return int(connection.execute(select(func.count()).select_from(feedback).where(*_where(chosen))).scalar_one())


def summarize(connection: Connection, chosen: FeedbackFilter, scope: Scope) -> Summary:
    """Counts of the reviews that match. A pair counts once, as its newest review among them says.

    Of versions that used them, those in scope are named.
    """
    where = _where(chosen)
    place = func.row_number().over(
        partition_by=feedback.c.pair, order_by=(feedback.c.review_time.desc(), feedback.c.recorded.desc())
    )
    pairs = select(feedback.c.correct_label, feedback.c.original_label, place.label("place")).where(*where).subquery()
    labels = connection.execute(
        select(
            pairs.c.correct_label,
            func.count(),
            func.count(pairs.c.original_label),
            func.sum(case((pairs.c.original_label != pairs.c.correct_label, 1), else_=0)),
        )
        .where(pairs.c.place == 1)
        .group_by(pairs.c.correct_label)
    ).all()
    totals = connection.execute(
        select(
            func.count(),
            func.coalesce(func.sum(feedback.c.revisions), 0),
            func.min(feedback.c.review_time),
            func.max(feedback.c.review_time),
        ).where(*where)
    ).one()
    corrections = sum(row[3] for row in labels)
    return Summary(
        reviews=totals[0],
        revisions=totals[1],
        samples=sum(row[1] for row in labels),
        corrections=corrections,
        confirmations=sum(row[2] for row in labels) - corrections,
        first_review_time=totals[2],
        last_review_time=totals[3],
        labels=sorted((row[0], row[1]) for row in labels),
        tasks=_counts(connection, feedback.c.task_id, where),
        domains=_counts(connection, feedback.c.domain, where),
        versions=_counts_by_version(connection, [*where, within(sample_uses.c.adapter, scope)]),
    )


def _counts(
    connection: Connection, column: ColumnElement[str], where: list[ColumnElement[bool]]
) -> list[tuple[str, int]]:
    rows = connection.execute(
        select(column, func.count())
        .where(*where)
        .group_by(column)
        .order_by(func.count().desc(), column)
        .limit(MAX_COUNTS)
    )
    return [(row[0], row[1]) for row in rows]


def _counts_by_version(connection: Connection, where: list[ColumnElement[bool]]) -> list[tuple[str, int, int]]:
    rows = connection.execute(
        select(sample_uses.c.adapter, sample_uses.c.number, func.count(distinct(feedback.c.number)))
        .join(feedback, feedback.c.content == sample_uses.c.content)
        .join(
            versions,
            (versions.c.adapter == sample_uses.c.adapter) & (versions.c.number == sample_uses.c.number),
        )
        .where(*where)
        .group_by(sample_uses.c.adapter, sample_uses.c.number)
        .order_by(versions.c.publish_order.desc())
        .limit(MAX_COUNTS)
    )
    return [(row[0], row[1], row[2]) for row in rows]


def _users_of(connection: Connection, numbers: Sequence[int]) -> dict[int, list[tuple[str, int]]]:
    found: dict[int, list[tuple[str, int]]] = {}
    for some in chunks(numbers):
        rows = connection.execute(
            select(feedback.c.number, sample_uses.c.adapter, sample_uses.c.number.label("version"))
            .distinct()
            .join(sample_uses, sample_uses.c.content == feedback.c.content)
            .where(feedback.c.number.in_(some))
            .order_by(sample_uses.c.adapter, sample_uses.c.number)
        )
        for row in rows:
            found.setdefault(row[0], []).append((row[1], row[2]))
    return found


def _newest(owner: str | None) -> ColumnElement[bool]:
    """Whether a review is the newest of its pair, of everybody's or of one owner's."""
    if owner is None:
        return feedback.c.newest.is_(True)
    other = feedback.alias("other")
    newer = exists().where(
        other.c.owner == owner,
        other.c.pair == feedback.c.pair,
        tuple_(other.c.review_time, other.c.recorded) > tuple_(feedback.c.review_time, feedback.c.recorded),
    )
    return and_(feedback.c.owner == owner, not_(newer))


def _where(chosen: FeedbackFilter) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    if chosen.owner is not None:
        where.append(feedback.c.owner == chosen.owner)
    if chosen.task_ids:
        where.append(feedback.c.task_id.in_(chosen.task_ids))
    if chosen.domains:
        where.append(feedback.c.domain.in_(chosen.domains))
    if chosen.reviewed_after is not None:
        where.append(feedback.c.review_time >= chosen.reviewed_after)
    if chosen.reviewed_before is not None:
        where.append(feedback.c.review_time < chosen.reviewed_before)
    if chosen.used_by:
        where.append(_used(chosen.used_by))
    if chosen.not_used_by:
        where.append(~_used(chosen.not_used_by))
    return where


def _used(users: Users) -> ColumnElement[bool]:
    used = select(literal(1)).where(sample_uses.c.adapter == users.adapter, sample_uses.c.content == feedback.c.content)
    if users.number is not None:
        used = used.where(sample_uses.c.number == users.number)
    return exists(used.correlate(feedback))


def _with_texts(owner: str | None = None) -> Select[Any]:
    latest = feedback_revisions
    return select(
        feedback.c.number,
        feedback.c.id,
        _newest(owner).label("newest"),
        *(column for column in latest.c if column.name != "number"),
    ).join(latest, (latest.c.number == feedback.c.number) & (latest.c.revision == feedback.c.revision))


def _sample(row: Any) -> Sample:
    return Sample(
        id=row.id,
        premise=row.premise,
        hypothesis=row.hypothesis,
        correct_label=Label(row.correct_label),
        original_label=Label(row.original_label) if row.original_label else None,
        original_confidence=row.original_confidence,
        group=row.group,
    )
