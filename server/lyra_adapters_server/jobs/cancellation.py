"""Cancels jobs: a waiting one at once, a running one through its supervisor."""

from __future__ import annotations

import structlog
from sqlalchemy import Connection

from lyra_adapters_server.errors import Kind, Refusal
from lyra_adapters_server.storage import jobs as store
from lyra_adapters_server.storage.database import Database, now_us
from lyra_adapters_server.storage.jobs import JobRecord, JobState
from lyra_adapters_server.storage.versions import version_of_job

log = structlog.get_logger()


async def cancel(database: Database, job_id: str, actor: str, reason: str) -> JobRecord | None:
    """Stores the wish and returns the job, CANCELLED already if nobody worked on it; None if there is no such job.

    Raises Refusal if the job has ended, or has its version in the registry already.
    """

    def work(connection: Connection) -> JobRecord | None:
        job = store.find_job(connection, job_id)
        if job is None:
            return None
        if job.finished or version_of_job(connection, job_id) is not None:
            state = job.state if job.finished else JobState.SUCCEEDED
            raise Refusal(
                Kind.FAILED_PRECONDITION,
                "JOB_FINISHED",
                f"Job {job_id} has ended ({state}), so there is nothing left to cancel. To take its version out of "
                "force, use Rollback.",
                metadata={"state": state},
            )
        store.request_cancel(connection, job_id, actor, reason)
        if job.lease_until is not None and job.lease_until >= now_us():
            return store.find_job(connection, job_id)
        cancelled = ("cancelled", {"actor": actor, "reason": reason})
        job, _ = store.record(connection, job_id, job.fencing_token, now_us(), [cancelled], state=JobState.CANCELLED)
        return job

    job = await database.write(work, "cancel", last_resort=True)
    if job is not None and job.finished:
        log.info("job_state", job_id=job.job_id, adapter=job.adapter, state=job.state)
    return job
