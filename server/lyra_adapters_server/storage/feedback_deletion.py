"""Deletes users' texts: reviews with their revisions, and the rows kept with jobs, inside the caller's transaction.

The database overwrites what is deleted with zeros (`secure_delete`, storage/database.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, func, or_, select, true, update
from sqlalchemy.sql.elements import ColumnElement

from lyra_adapters_server.scope import Scope
from lyra_adapters_server.storage.feedback import chunks, mark_newest
from lyra_adapters_server.storage.jobs import LIVE
from lyra_adapters_server.storage.scoped import within
from lyra_adapters_server.storage.tables import feedback, feedback_revisions, job_rows, jobs

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Whose:
    """What a caller may delete: the reviews of one owner (None: everybody's), and rows of jobs of these adapters."""

    owner: str | None
    scope: Scope

    @property
    def reviews(self) -> ColumnElement[bool]:
        """Whether a review is among them."""
        return true() if self.owner is None else feedback.c.owner == self.owner


def ids_of_tasks(connection: Connection, task_ids: Collection[str], whose: Whose) -> set[str]:
    """The ids of the reviews any revision of which belongs to one of these tasks."""
    found: set[str] = set()
    for some in chunks(task_ids):
        mine = feedback.c.number.in_(
            select(feedback_revisions.c.number).where(feedback_revisions.c.task_id.in_(some)).distinct()
        )
        found |= set(connection.execute(select(feedback.c.id).where(mine, whose.reviews)).scalars())
    return found


def jobs_with_rows(
    connection: Connection, task_ids: Collection[str], sample_ids: Collection[str], whose: Whose, *, live: bool
) -> list[str]:
    """The jobs that keep rows of these tasks, or rows with these ids: those that wait or run, or those that ended."""
    state = and_(within(jobs.c.adapter, whose.scope), jobs.c.state.in_(LIVE) if live else jobs.c.state.not_in(LIVE))
    found: set[str] = set()
    for some in chunks(task_ids):
        rows = connection.execute(select(jobs.c.job_id).join(job_rows).where(state, jobs.c.task_id.in_(some)))
        found |= set(rows.scalars())
    for some in chunks(sample_ids):
        kept = [_holds(column, some) for column in (job_rows.c.training_samples, job_rows.c.validation_samples)]
        rows = connection.execute(select(jobs.c.job_id).join(job_rows).where(state, or_(*kept)))
        found |= set(rows.scalars())
    return sorted(found)


def delete_reviews(connection: Connection, sample_ids: Collection[str], whose: Whose) -> int:
    """Deletes reviews with all their revisions; returns how many."""
    count = 0
    pairs: set[str] = set()
    for some in chunks(sample_ids):
        mine = (feedback.c.id.in_(some), whose.reviews)
        rows = connection.execute(select(feedback.c.number, feedback.c.pair).where(*mine)).all()
        pairs |= {row.pair for row in rows}
        numbers = [row.number for row in rows]
        connection.execute(delete(feedback_revisions).where(feedback_revisions.c.number.in_(numbers)))
        count += connection.execute(delete(feedback).where(feedback.c.number.in_(numbers))).rowcount
    mark_newest(connection, pairs)
    return count


def delete_job_rows(
    connection: Connection, job_ids: Collection[str], task_ids: Collection[str], sample_ids: Collection[str]
) -> int:
    """Deletes from these jobs' rows those with these ids, and all of the jobs of these tasks; returns how many."""
    count = 0
    for job_id in job_ids:
        row = connection.execute(select(job_rows, jobs.c.task_id).join(jobs).where(jobs.c.job_id == job_id)).one()
        gone = _everything if row.task_id in task_ids else lambda sample: sample["id"] in sample_ids
        training, n = _without(row.training_samples, gone)
        validation, m = _without(row.validation_samples, gone)
        if n + m:
            connection.execute(
                update(job_rows)
                .where(job_rows.c.job_id == job_id)
                .values(training_samples=training, validation_samples=validation)
            )
        count += n + m
    return count


def _everything(_sample: dict[str, Any]) -> bool:
    return True


def _without(rows: Rows, gone: Callable[[dict[str, Any]], bool]) -> tuple[Rows, int]:
    kept = [row for row in rows if not gone(row)]
    return kept, len(rows) - len(kept)


def _holds(column: ColumnElement[Any], ids: list[str]) -> ColumnElement[bool]:
    """Whether a JSON list of rows has one with such an id."""
    rows = func.json_each(column).table_valued("value")
    return select(rows.c.value).where(func.json_extract(rows.c.value, "$.id").in_(ids)).exists()
