"""The RPCs that change something which is there: Rollback, Activate, Cancel."""

from __future__ import annotations

from collections.abc import Callable

from lyra_adapters.v1 import adapter_service_pb2 as pb
from sqlalchemy import Connection

from lyra_adapters_server.errors import Kind, Refusal
from lyra_adapters_server.jobs import cancellation
from lyra_adapters_server.registry import pointer as pointers
from lyra_adapters_server.registry.links import follow_row
from lyra_adapters_server.service.auth.caller import calling
from lyra_adapters_server.service.auth.scoping import check_adapter
from lyra_adapters_server.service.context import Service
from lyra_adapters_server.service.convert import job_message, pointer_change_message
from lyra_adapters_server.service.fields import Findings, content_digest
from lyra_adapters_server.storage import jobs as job_store
from lyra_adapters_server.storage.jobs import JobRecord

MAX_NAME = 200
MAX_REASON = 2000


async def rollback(service: Service, request: pb.RollbackRequest) -> pb.RollbackResponse:
    """Moves a pointer back."""
    findings = Findings()
    if bool(request.adapter) == bool(request.task_id):
        findings.add("adapter", "give either adapter or task_id")
    elif request.adapter:
        findings.adapter("adapter", request.adapter)
    findings.text("task_id", request.task_id, MAX_NAME)
    asked = _asked(request, findings)
    if request.adapter:
        check_adapter(request.adapter)
    scope = calling().scope

    def work(connection: Connection) -> pointers.Moved:
        adapter = request.adapter or pointers.adapter_of_task(connection, request.task_id, scope)
        return pointers.rollback(connection, adapter, request.to_version, request.expected_active, asked)

    moved = await _move(service, work, "rollback")
    return pb.RollbackResponse(change=pointer_change_message(moved.change), changed=moved.changed)


async def activate(service: Service, request: pb.ActivateRequest) -> pb.ActivateResponse:
    """Puts a version in force."""
    findings = Findings()
    findings.adapter("adapter", request.adapter)
    if not request.version:
        findings.add("version", "is required: the version to put in force, like v3")
    asked = _asked(request, findings)
    check_adapter(request.adapter)

    def work(connection: Connection) -> pointers.Moved:
        return pointers.activate(
            connection,
            request.adapter,
            request.version,
            request.expected_active,
            asked,
            allow_rejected=request.allow_rejected,
        )

    moved = await _move(service, work, "activate")
    return pb.ActivateResponse(change=pointer_change_message(moved.change), changed=moved.changed)


async def cancel(service: Service, request: pb.CancelRequest) -> pb.CancelResponse:
    """Stops a job."""
    findings = Findings()
    findings.text("actor", request.actor, MAX_NAME)
    findings.text("reason", request.reason, MAX_REASON)
    findings.raise_if_any()
    await find_job(service, request.job_id)
    job = await cancellation.cancel(service.database, request.job_id, request.actor, request.reason)
    if job is None:
        raise unknown_job(request.job_id)
    service.log.wake(job.job_id)
    service.supervisor.cancel(job.job_id)
    return pb.CancelResponse(job=job_message(job))


async def find_job(service: Service, job_id: str) -> JobRecord:
    """The job. Raises Refusal if it does not exist, or not for this caller."""
    # A thousand readers that come at once ask for the same.
    key = ("found", job_id)
    job = await service.database.read_kept(key, lambda connection: job_store.find_job(connection, job_id))
    if job is None or job.adapter not in calling().scope:
        raise unknown_job(job_id)
    return job


def unknown_job(job_id: str) -> Refusal:
    """Refuses a job that does not exist."""
    return Refusal(Kind.NOT_FOUND, "JOB_NOT_FOUND", f"There is no job {job_id[:80]!r}; ListJobs shows those there are.")


def forgotten_events(job_id: str) -> Refusal:
    """Refuses to stream a job whose events were deleted."""
    return Refusal(
        Kind.NOT_FOUND,
        "EVENTS_FORGOTTEN",
        f"Job {job_id} ended so long ago that its events were deleted (keep_job_days); Status tells how it ended.",
    )


def _asked(request: pb.RollbackRequest | pb.ActivateRequest, findings: Findings) -> pointers.Asked:
    """Who asks and why. Raises Refusal for what was found wrong so far, too."""
    findings.text("reason", request.reason, MAX_REASON)
    findings.text("actor", request.actor, MAX_NAME)
    findings.uuid("request_id", request.request_id)
    findings.raise_if_any()
    return pointers.Asked(
        principal=calling().principal,
        actor=request.actor,
        reason=request.reason,
        request_id=request.request_id.lower() or None,
        digest=content_digest(request),
    )


async def _move(service: Service, work: Callable[[Connection], pointers.Moved], step: str) -> pointers.Moved:
    moved = await service.database.write(work, step, last_resort=True)
    # Link and pointer file follow before the caller hears of it.
    await follow_row(service.database, service.layout, moved.change.adapter)
    return moved
