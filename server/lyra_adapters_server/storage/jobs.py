"""Reads and writes jobs and their events. Every function runs inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, delete, distinct, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from lyra_adapters_server.scope import Scope
from lyra_adapters_server.storage.scoped import within
from lyra_adapters_server.storage.tables import events, job_rows, jobs


class JobState(StrEnum):
    """Where a job stands (protos: JobState)."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


LIVE = (JobState.QUEUED, JobState.RUNNING)


class LeaseLost(Exception):
    """Another supervisor has taken the job, or it has ended: whoever sees this stops and writes nothing more."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A row of `jobs`; times in microseconds."""

    number: int
    job_id: str
    principal: str
    request_id: str | None
    request_digest: str
    adapter: str
    task_id: str
    actor: str
    domain: str
    base_model: str
    activation: str
    continue_from: str
    lora: dict[str, Any]
    training: dict[str, Any]
    samples: int
    state: str
    create_time: int
    start_time: int | None
    end_time: int | None
    attempt: int
    interruptions: int
    fencing_token: int
    lease_owner: str | None
    lease_until: int | None
    last_sequence: int
    cancel_requested: bool
    cancel_actor: str
    cancel_reason: str
    progress: dict[str, Any] | None
    version: str | None
    verdict: dict[str, Any] | None
    failure: dict[str, Any] | None
    plan: dict[str, Any] | None
    interruption: str

    @property
    def finished(self) -> bool:
        """Whether the job has ended, one way or another."""
        return self.state not in LIVE


@dataclass(frozen=True, slots=True)
class EventRecord:
    """A row of `events`: `payload` is the message of that kind in the proto's JSON form."""

    job_id: str
    sequence: int
    time: int
    kind: str
    payload: dict[str, Any]


CLOSING_KINDS = frozenset({"succeeded", "failed", "cancelled"})


def insert_job(
    connection: Connection,
    values: Mapping[str, Any],
    training_samples: list[dict[str, Any]],
    validation_samples: list[dict[str, Any]],
    merged: Sequence[tuple[str, str, bool]] = (),
) -> bool:
    """Inserts a queued job with its rows, and those merged into them (see merged_rows).

    False if the principal has used the request id before.
    """
    try:
        with connection.begin_nested():
            connection.execute(
                insert(jobs).values(
                    state=JobState.QUEUED,
                    attempt=0,
                    interruptions=0,
                    fencing_token=0,
                    last_sequence=0,
                    cancel_requested=False,
                    cancel_actor="",
                    cancel_reason="",
                    **values,
                )
            )
    except IntegrityError:
        return False
    connection.execute(
        insert(job_rows).values(
            job_id=values["job_id"],
            training_samples=training_samples,
            validation_samples=validation_samples,
            merged=list(merged),
        )
    )
    return True


def find_job(connection: Connection, job_id: str) -> JobRecord | None:
    """The job, or None."""
    row = connection.execute(select(jobs).where(jobs.c.job_id == job_id)).one_or_none()
    return JobRecord(**row._mapping) if row else None


def find_request(connection: Connection, principal: str, request_id: str) -> JobRecord | None:
    """The job that this principal's request created, or None."""
    row = connection.execute(
        select(jobs).where(jobs.c.principal == principal, jobs.c.request_id == request_id)
    ).one_or_none()
    return JobRecord(**row._mapping) if row else None


def job_samples(connection: Connection, job_id: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The job's training rows and its held-out rows."""
    row = connection.execute(select(job_rows).where(job_rows.c.job_id == job_id)).one()
    return row.training_samples, row.validation_samples


def merged_rows(connection: Connection, job_id: str) -> list[tuple[str, str, bool]]:
    """Rows that were merged into nearly the same ones: id, content digest, whether these were held out."""
    found = connection.execute(select(job_rows.c.merged).where(job_rows.c.job_id == job_id)).scalar_one_or_none()
    return [(row_id, content, held_out) for row_id, content, held_out in found or ()]


def find_samples(connection: Connection, job_id: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]] | None:
    """As job_samples(); None where the job's rows have been deleted."""
    row = connection.execute(select(job_rows).where(job_rows.c.job_id == job_id)).one_or_none()
    return (row.training_samples, row.validation_samples) if row else None


def page_of_jobs(
    connection: Connection,
    *,
    scope: Scope,
    adapter: str = "",
    task_id: str = "",
    states: Sequence[str] = (),
    before: int | None = None,
    limit: int,
) -> tuple[list[JobRecord], int]:
    """Up to `limit` jobs with a number below `before`, newest first, and how many match in all."""
    where: list[ColumnElement[bool]] = [within(jobs.c.adapter, scope)]
    if adapter:
        where.append(jobs.c.adapter == adapter)
    if task_id:
        where.append(jobs.c.task_id == task_id)
    if states:
        where.append(jobs.c.state.in_(states))
    total = connection.execute(select(func.count()).select_from(jobs).where(*where)).scalar_one()
    if before is not None:
        where.append(jobs.c.number < before)
    rows = connection.execute(select(jobs).where(*where).order_by(jobs.c.number.desc()).limit(limit))
    return [JobRecord(**row._mapping) for row in rows], total


def queue(connection: Connection, limit: int, scope: Scope) -> tuple[list[tuple[JobRecord, int]], int]:
    """The first `limit` waiting jobs in scope with their places, next first, and how many wait in all.

    Jobs out of scope are not returned but count: there is one queue.
    """
    waiting = jobs.c.state == JobState.QUEUED
    place = func.row_number().over(order_by=jobs.c.number).label("place")
    placed = select(jobs.c.number, place).where(waiting).subquery()
    rows = connection.execute(
        select(placed.c.place, jobs)
        .join(placed, placed.c.number == jobs.c.number)
        .where(within(jobs.c.adapter, scope))
        .order_by(jobs.c.number)
        .limit(limit)
    )
    found = [(JobRecord(*row[1:]), row.place) for row in rows]
    total = connection.execute(select(func.count()).select_from(jobs).where(waiting)).scalar_one()
    return found, total


def count_queued(connection: Connection, principal: str) -> tuple[int, int]:
    """How many jobs of this principal wait, and how many in all."""
    own = func.coalesce(func.sum(case((jobs.c.principal == principal, 1), else_=0)), 0)
    row = connection.execute(select(own, func.count()).where(jobs.c.state == JobState.QUEUED)).one()
    return int(row[0]), int(row[1])


def queue_position(connection: Connection, number: int) -> int:
    """The place in the queue of the waiting job with that number; 1 is next."""
    ahead = select(func.count()).select_from(jobs).where(jobs.c.state == JobState.QUEUED, jobs.c.number < number)
    return int(connection.execute(ahead).scalar_one()) + 1


def running(connection: Connection, scope: Scope) -> list[JobRecord]:
    """The jobs in a trainer that are in scope, oldest first."""
    mine = within(jobs.c.adapter, scope)
    rows = connection.execute(select(jobs).where(jobs.c.state == JobState.RUNNING, mine).order_by(jobs.c.number))
    return [JobRecord(**row._mapping) for row in rows]


def live_jobs(connection: Connection) -> set[str]:
    """The ids of the jobs that have not ended."""
    return set(connection.execute(select(jobs.c.job_id).where(jobs.c.state.in_(LIVE))).scalars())


def jobs_from(connection: Connection, name: str) -> list[str]:
    """The ids of the live jobs that continue from this version (full name)."""
    mine = and_(jobs.c.state.in_(LIVE), jobs.c.continue_from == name)
    return list(connection.execute(select(jobs.c.job_id).where(mine)).scalars())


def known_domains(connection: Connection, adapter: str) -> set[str]:
    """The domains that this adapter's jobs named, but for those that failed or were cancelled."""
    rows = connection.execute(
        select(jobs.c.domain).distinct().where(jobs.c.adapter == adapter, jobs.c.state.in_((*LIVE, JobState.SUCCEEDED)))
    )
    return {row.domain for row in rows}


def claim(connection: Connection, owner: str, now: int, lease_until: int) -> JobRecord | None:
    """Takes the oldest job that waits, or whose supervisor's lease ran out; None if there is none.

    The attempt is counted and the fencing token raised, so that whoever held the job before can write nothing more.
    A lease that ran out is an interruption: its supervisor did not live to give it back, so nothing is known of why.
    """
    free = or_(jobs.c.lease_until.is_(None), jobs.c.lease_until < now)
    number = connection.execute(
        select(jobs.c.number).where(and_(jobs.c.state.in_(LIVE), free)).order_by(jobs.c.number).limit(1)
    ).scalar()
    if number is None:
        return None
    row = connection.execute(
        update(jobs)
        .where(jobs.c.number == number)
        .values(
            attempt=jobs.c.attempt + 1,
            interruptions=jobs.c.interruptions + case((jobs.c.lease_owner.is_(None), 0), else_=1),
            interruption=case((jobs.c.lease_owner.is_(None), jobs.c.interruption), else_=""),
            fencing_token=jobs.c.fencing_token + 1,
            lease_owner=owner,
            lease_until=lease_until,
        )
        .returning(*jobs.c)
    ).one()
    return JobRecord(**row._mapping)


def lease_owners(connection: Connection) -> set[str]:
    """Who holds a lease, or held one that ran out."""
    rows = connection.execute(select(jobs.c.lease_owner).distinct().where(jobs.c.state.in_(LIVE)))
    return {row.lease_owner for row in rows if row.lease_owner is not None}


def expire_leases(connection: Connection, owners: Sequence[str]) -> int:
    """Ends the leases of these owners now, so that their jobs can be claimed; returns how many."""
    mine = and_(jobs.c.state.in_(LIVE), jobs.c.lease_owner.in_(owners), jobs.c.lease_until > 0)
    return connection.execute(update(jobs).where(mine).values(lease_until=0)).rowcount


def renew(connection: Connection, job_id: str, token: int, lease_until: int) -> None:
    """Prolongs a lease. Raises LeaseLost."""
    _update_held(connection, job_id, token, {"lease_until": lease_until})


def release(connection: Connection, job_id: str, token: int, *, interrupted: bool, reason: str) -> None:
    """Gives a lease up, so that the job can be claimed at once. Raises LeaseLost.

    Args:
        connection: The transaction.
        job_id: The job.
        token: The fencing token of the claim.
        interrupted: Whether the attempt ended because the trainer died, which a job survives only so often.
        reason: Why it ended, in words.
    """
    counted = {"interruptions": jobs.c.interruptions + 1} if interrupted else {}
    _update_held(
        connection, job_id, token, {"lease_owner": None, "lease_until": None, "interruption": reason, **counted}
    )


def record(
    connection: Connection,
    job_id: str,
    token: int,
    now: int,
    new_events: Sequence[tuple[str, Mapping[str, Any]]],
    **changes: Any,
) -> tuple[JobRecord, list[EventRecord]]:
    """Appends events and changes the job's row, for the holder of the fencing token. Raises LeaseLost.

    The only way that events come into being, so that a change and its event share a transaction.
    """
    job = find_job(connection, job_id)
    if job is None:
        raise LeaseLost(job_id)
    records = [
        EventRecord(job_id, sequence, now, kind, dict(payload))
        for sequence, (kind, payload) in enumerate(new_events, start=job.last_sequence + 1)
    ]
    if any(event.kind in CLOSING_KINDS for event in records):
        changes |= {"end_time": now, "lease_owner": None, "lease_until": None}
    updated = _update_held(connection, job_id, token, {"last_sequence": job.last_sequence + len(records), **changes})
    if records:
        connection.execute(
            insert(events),
            [
                {"job_id": e.job_id, "sequence": e.sequence, "time": e.time, "kind": e.kind, "payload": e.payload}
                for e in records
            ],
        )
    return updated, records


def request_cancel(connection: Connection, job_id: str, actor: str, reason: str) -> None:
    """Notes the wish to stop a live job; its supervisor carries it out."""
    connection.execute(
        update(jobs)
        .where(jobs.c.job_id == job_id)
        .values(cancel_requested=True, cancel_actor=actor, cancel_reason=reason)
    )


def events_after(connection: Connection, job_id: str, sequence: int, limit: int) -> list[EventRecord]:
    """Up to `limit` events after `sequence`, in order."""
    rows = connection.execute(
        select(events)
        .where(events.c.job_id == job_id, events.c.sequence > sequence)
        .order_by(events.c.sequence)
        .limit(limit)
    )
    return [EventRecord(**row._mapping) for row in rows]


def forget_ended(connection: Connection, before: int) -> int:
    """Deletes events and rows of the jobs that ended before a time (microseconds); returns of how many jobs."""
    ended = select(jobs.c.job_id).where(jobs.c.end_time < before)
    count = connection.execute(
        select(func.count(distinct(events.c.job_id))).where(events.c.job_id.in_(ended))
    ).scalar_one()
    connection.execute(delete(events).where(events.c.job_id.in_(ended)))
    connection.execute(delete(job_rows).where(job_rows.c.job_id.in_(ended)))
    return int(count)


def _update_held(connection: Connection, job_id: str, token: int, values: Mapping[str, Any]) -> JobRecord:
    held = and_(jobs.c.job_id == job_id, jobs.c.fencing_token == token, jobs.c.state.in_(LIVE))
    row = connection.execute(update(jobs).where(held).values(**values).returning(*jobs.c)).one_or_none()
    if row is None:
        raise LeaseLost(job_id)
    return JobRecord(**row._mapping)
