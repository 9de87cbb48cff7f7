"""Deletes users' texts for good, from the tables and from the database's files."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection

from lyra_adapters_server.errors import Kind, Refusal
from lyra_adapters_server.storage import feedback_deletion as store
from lyra_adapters_server.storage.database import Database
from lyra_adapters_server.storage.feedback_deletion import Whose

# How often, and how long apart, it is tried to empty the write-ahead log while readers hold it.
TRIES, PAUSE_S = 50, 0.1


@dataclass(frozen=True)
class Deleted:
    """How many reviews went, and how many rows that were kept with jobs."""

    reviews: int
    job_rows: int


async def delete_feedback(
    database: Database, task_ids: Collection[str], sample_ids: Collection[str], whose: Whose
) -> Deleted:
    """Deletes what belongs to these tasks or has these ids. Returns once no file holds it. Raises Refusal.

    A job that waits or runs keeps its rows: a job that goes on after a crash must train on the same ones. So it is in
    the way, and the caller decides whether to cancel it.
    """
    tasks, ids = set(task_ids), set(sample_ids)
    deleted = await database.write(
        lambda connection: _delete(connection, tasks, ids, whose), "feedback.delete", last_resort=True
    )
    # Also where nothing was deleted: an earlier call may have ended before the log was empty.
    for _ in range(TRIES):
        if await database.empty_log():
            return deleted
        await asyncio.sleep(PAUSE_S)
    raise Refusal(
        Kind.UNAVAILABLE,
        "READERS_IN_THE_WAY",
        "The texts are deleted, but readers still hold the database's log, which has a copy; repeat the call until it "
        "succeeds.",
        retry_after_s=5.0,
    )


def _delete(connection: Connection, tasks: set[str], ids: set[str], whose: Whose) -> Deleted:
    ids = ids | store.ids_of_tasks(connection, tasks, whose)
    if live := store.jobs_with_rows(connection, tasks, ids, whose, live=True):
        raise Refusal(
            Kind.FAILED_PRECONDITION,
            "ROWS_IN_USE",
            f"{len(live)} jobs that wait or run train on such rows: {', '.join(live[:5])}. Cancel them or wait for "
            "their end, then delete. Nothing was deleted.",
            metadata={"job_ids": ",".join(live[:20])},
        )
    ended = store.jobs_with_rows(connection, tasks, ids, whose, live=False)
    return Deleted(
        reviews=store.delete_reviews(connection, ids, whose),
        job_rows=store.delete_job_rows(connection, ended, tasks, ids),
    )
