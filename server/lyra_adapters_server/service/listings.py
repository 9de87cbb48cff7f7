"""The RPCs that only look: List, ListJobs, and Status of a job."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lyra_adapters.v1 import adapter_service_pb2 as pb
from sqlalchemy import Connection

from lyra_adapters_server.errors import Violation, invalid
from lyra_adapters_server.service import pages
from lyra_adapters_server.service.auth.caller import calling
from lyra_adapters_server.service.auth.scoping import check_adapter
from lyra_adapters_server.service.changes import unknown_job
from lyra_adapters_server.service.context import Service
from lyra_adapters_server.service.convert import job_message, pointer_change_message, version_message
from lyra_adapters_server.service.fields import Findings
from lyra_adapters_server.storage import jobs as job_store
from lyra_adapters_server.storage import versions as version_store
from lyra_adapters_server.storage.jobs import JobRecord
from lyra_adapters_server.storage.versions import ActivationRecord, VersionRecord

MAX_HISTORY = 1000


async def job_status(service: Service, job_id: str) -> pb.Job:
    """One job, with its place in the queue."""
    scope = calling().scope

    def read(connection: Connection) -> tuple[JobRecord, int] | None:
        job = job_store.find_job(connection, job_id)
        return (job, job_store.queue_position(connection, job.number)) if job else None

    # Those who poll ask more often than anything changes.
    found = await service.database.read_kept(("job", job_id), read)
    if found is None or found[0].adapter not in scope:
        raise unknown_job(job_id)
    return job_message(*found)


async def list_versions(service: Service, request: pb.ListRequest) -> pb.ListResponse:
    """Versions, newest first."""
    size, before = pages.page_size(request.page_size), pages.read_token(request)
    states = _filters(request.adapter, request.states, pb.VersionState, "VERSION_STATE_")
    if request.include_history and not request.adapter:
        raise invalid([Violation("adapter", "is required with include_history")])
    scope = calling().scope

    def read(connection: Connection) -> tuple[list[VersionRecord], int, list[ActivationRecord]]:
        versions, total = version_store.page_of_versions(
            connection,
            scope=scope,
            adapter=request.adapter,
            task_id=request.task_id,
            states=states,
            before=before,
            limit=size + 1,
        )
        changes: list[ActivationRecord] = []
        if request.include_history:
            changes = version_store.history(connection, request.adapter, newest_first=True, limit=MAX_HISTORY)
        return versions, total, changes

    versions, total, changes = await service.database.read(read)
    token = pages.make_token(request, versions[size - 1].publish_order) if len(versions) > size else ""
    return pb.ListResponse(
        versions=[version_message(service.layout, version) for version in versions[:size]],
        next_page_token=token,
        total_size=total,
        history=[pointer_change_message(change) for change in changes],
    )


async def list_jobs(service: Service, request: pb.ListJobsRequest) -> pb.ListJobsResponse:
    """Jobs, newest first."""
    size, before = pages.page_size(request.page_size), pages.read_token(request)
    states = _filters(request.adapter, request.states, pb.JobState, "JOB_STATE_")
    scope = calling().scope

    def read(connection: Connection) -> tuple[list[tuple[JobRecord, int]], int]:
        jobs, total = job_store.page_of_jobs(
            connection,
            scope=scope,
            adapter=request.adapter,
            task_id=request.task_id,
            states=states,
            before=before,
            limit=size + 1,
        )
        placed = [
            (job, job_store.queue_position(connection, job.number) if job.state == "QUEUED" else 0) for job in jobs
        ]
        return placed, total

    jobs, total = await service.database.read(read)
    token = pages.make_token(request, jobs[size - 1][0].number) if len(jobs) > size else ""
    return pb.ListJobsResponse(
        jobs=[job_message(job, position) for job, position in jobs[:size]], next_page_token=token, total_size=total
    )


def _filters(adapter: str, states: Iterable[int], enum: Any, prefix: str) -> list[str]:
    """The states to list, without their prefix.

    Raises Refusal for a bad adapter name, one that is not the caller's, or an unknown state.
    """
    findings = Findings()
    if adapter:
        findings.adapter("adapter", adapter)
    known = {number: name.removeprefix(prefix) for name, number in enum.items() if number}
    wanted = []
    for index, number in enumerate(states):
        findings.known(f"states[{index}]", number, known, ", ".join(prefix + name for name in known.values()))
        wanted.append(known.get(number, ""))
    findings.raise_if_any()
    if adapter:
        check_adapter(adapter)
    return wanted
