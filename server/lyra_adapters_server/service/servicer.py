"""The RPCs: each checks its request, asks the layers below, and converts the answer."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from google.protobuf.message import Message
from lyra_adapters.v1 import adapter_service_pb2 as pb
from lyra_adapters.v1 import adapter_service_pb2_grpc as pb_grpc
from sqlalchemy import Connection

from lyra_adapters_server.errors import Kind, Refusal, Violation, invalid
from lyra_adapters_server.executors.base import Executor
from lyra_adapters_server.jobs import acceptance, cancellation
from lyra_adapters_server.jobs.log import EventLog
from lyra_adapters_server.jobs.supervisor import Supervisor
from lyra_adapters_server.registry import pointer as pointers
from lyra_adapters_server.registry.layout import Layout
from lyra_adapters_server.registry.links import follow_row
from lyra_adapters_server.service import pages
from lyra_adapters_server.service.base_models import find_base
from lyra_adapters_server.service.convert import (
    event_message,
    heartbeat,
    job_message,
    pointer_change_message,
    version_message,
)
from lyra_adapters_server.service.fields import Findings
from lyra_adapters_server.service.status import service_status
from lyra_adapters_server.service.training_request import (
    MAX_NAME,
    check_request_id,
    content_digest,
    to_new_job,
)
from lyra_adapters_server.storage import jobs as job_store
from lyra_adapters_server.storage import versions as version_store
from lyra_adapters_server.storage.database import Database, now_us
from lyra_adapters_server.storage.jobs import JobRecord
from lyra_adapters_server.trainer.spec import BaseModelConfig

log = structlog.get_logger()

MAX_REASON = 2000
MAX_HISTORY = 1000
# Until callers are told apart, all of them are this one.
PRINCIPAL = "anonymous"

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True)
class Service:
    """What the RPCs work on."""

    database: Database
    layout: Layout
    log: EventLog
    executor: Executor
    supervisor: Supervisor
    bases: tuple[BaseModelConfig, ...]
    heartbeat_s: float
    start_time: int
    version: str


class AdapterServicer(pb_grpc.AdapterServiceServicer):
    """protos/lyra_adapters/v1/adapter_service.proto; what is not here answers UNIMPLEMENTED."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._database = service.database

    async def Train(self, request: pb.TrainRequest, context: Context) -> AsyncIterator[pb.TrainEvent]:  # noqa: N802
        """Creates a job, then streams its events."""
        job = await self._accept(request)
        async with contextlib.aclosing(self._follow(job.job_id, 0)) as events:
            async for event in events:
                yield event

    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.TrainEvent]:  # noqa: N802
        """Streams a job's events from any point."""
        job = await self._find_job(request.job_id)
        if not 0 <= request.after_sequence <= job.last_sequence:
            raise invalid(
                [Violation("after_sequence", f"is {request.after_sequence}; must be from 0 to {job.last_sequence}")]
            )
        if job.finished and request.after_sequence == job.last_sequence:
            return
        async with contextlib.aclosing(self._follow(job.job_id, request.after_sequence)) as events:
            async for event in events:
                yield event

    async def Status(self, request: pb.StatusRequest, context: Context) -> pb.StatusResponse:  # noqa: N802
        """One job, or the whole service."""
        if not request.job_id:
            return pb.StatusResponse(service=await service_status(self._service))

        def read(connection: Connection) -> tuple[JobRecord, int] | None:
            job = job_store.find_job(connection, request.job_id)
            return (job, job_store.queue_position(connection, job.number)) if job else None

        found = await self._database.read(read)
        if found is None:
            raise _unknown_job(request.job_id)
        return pb.StatusResponse(job=job_message(*found))

    async def List(self, request: pb.ListRequest, context: Context) -> pb.ListResponse:  # noqa: N802
        """Versions, newest first."""
        size, before = pages.page_size(request.page_size), pages.read_token(request)
        states = _filters(request.adapter, request.states, pb.VersionState, "VERSION_STATE_")
        if request.include_history and not request.adapter:
            raise invalid([Violation("adapter", "is required with include_history")])

        def read(connection: Connection) -> tuple[list[Any], int, list[Any]]:
            versions, total = version_store.page_of_versions(
                connection,
                adapter=request.adapter,
                task_id=request.task_id,
                states=states,
                before=before,
                limit=size + 1,
            )
            changes: list[Any] = []
            if request.include_history:
                changes = version_store.history(connection, request.adapter, newest_first=True, limit=MAX_HISTORY)
            return versions, total, changes

        versions, total, changes = await self._database.read(read)
        token = pages.make_token(request, versions[size - 1].publish_order) if len(versions) > size else ""
        return pb.ListResponse(
            versions=[version_message(self._service.layout, version) for version in versions[:size]],
            next_page_token=token,
            total_size=total,
            history=[pointer_change_message(change) for change in changes],
        )

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:  # noqa: N802
        """Jobs, newest first."""
        size, before = pages.page_size(request.page_size), pages.read_token(request)
        states = _filters(request.adapter, request.states, pb.JobState, "JOB_STATE_")

        def read(connection: Connection) -> tuple[list[tuple[JobRecord, int]], int]:
            jobs, total = job_store.page_of_jobs(
                connection,
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

        jobs, total = await self._database.read(read)
        token = pages.make_token(request, jobs[size - 1][0].number) if len(jobs) > size else ""
        return pb.ListJobsResponse(
            jobs=[job_message(job, position) for job, position in jobs[:size]], next_page_token=token, total_size=total
        )

    async def Rollback(self, request: pb.RollbackRequest, context: Context) -> pb.RollbackResponse:  # noqa: N802
        """Moves the pointer back."""
        findings = Findings()
        if bool(request.adapter) == bool(request.task_id):
            findings.add("adapter", "give either adapter or task_id")
        elif request.adapter:
            findings.adapter("adapter", request.adapter)
        findings.text("reason", request.reason, MAX_REASON)
        findings.text("actor", request.actor, MAX_NAME)
        findings.uuid("request_id", request.request_id)
        findings.raise_if_any()
        asked = pointers.Asked(
            principal=PRINCIPAL,
            actor=request.actor,
            reason=request.reason,
            request_id=request.request_id.lower() or None,
            digest=_digest(request),
        )

        def move(connection: Connection) -> pointers.Moved:
            adapter = request.adapter or pointers.adapter_of_task(connection, request.task_id)
            return pointers.rollback(connection, adapter, request.to_version, request.expected_active, asked)

        moved = await self._database.write(move)
        # The link follows before the caller hears of it.
        await follow_row(self._database, self._service.layout, moved.change.adapter)
        return pb.RollbackResponse(change=pointer_change_message(moved.change), changed=moved.changed)

    async def Cancel(self, request: pb.CancelRequest, context: Context) -> pb.CancelResponse:  # noqa: N802
        """Stops a job."""
        findings = Findings()
        findings.text("actor", request.actor, MAX_NAME)
        findings.text("reason", request.reason, MAX_REASON)
        findings.raise_if_any()
        job = await cancellation.cancel(self._database, request.job_id, request.actor, request.reason)
        if job is None:
            raise _unknown_job(request.job_id)
        self._service.log.wake(job.job_id)
        self._service.supervisor.cancel(job.job_id)
        return pb.CancelResponse(job=job_message(job))

    async def Activate(self, request: pb.ActivateRequest, context: Context) -> pb.ActivateResponse:  # noqa: N802
        """Not yet."""
        raise _not_built("Activate")

    async def Classify(self, request: pb.ClassifyRequest, context: Context) -> pb.ClassifyResponse:  # noqa: N802
        """Not yet."""
        raise _not_built("Classify")

    async def RecordFeedback(  # noqa: N802
        self, request: pb.RecordFeedbackRequest, context: Context
    ) -> pb.RecordFeedbackResponse:
        """Not yet."""
        raise _not_built("RecordFeedback")

    async def WatchAdapter(  # noqa: N802
        self, request: pb.WatchAdapterRequest, context: Context
    ) -> AsyncIterator[pb.PointerChange]:
        """Not yet."""
        raise _not_built("WatchAdapter")
        yield

    async def Download(self, request: pb.DownloadRequest, context: Context) -> AsyncIterator[pb.DownloadResponse]:  # noqa: N802
        """Not yet."""
        raise _not_built("Download")
        yield

    async def _accept(self, request: pb.TrainRequest) -> JobRecord:
        check_request_id(request)
        digest = content_digest(request)
        if request.request_id:
            # A retry is answered even while the base is not ready, or the training no longer due.
            earlier = await self._database.read(
                lambda connection: job_store.find_request(connection, PRINCIPAL, request.request_id.lower())
            )
            if earlier is not None:
                return acceptance.same_request(earlier, digest)
        card = find_base(self._service.bases, self._service.executor, request.base_model)
        job, created = await acceptance.accept(self._database, to_new_job(request, PRINCIPAL, digest, card))
        if created:
            log.info("job_state", job_id=job.job_id, adapter=job.adapter, state=job.state)
        self._service.supervisor.wake()
        return job

    async def _follow(self, job_id: str, after: int) -> AsyncGenerator[pb.TrainEvent, None]:
        following = self._service.log.follow(job_id, after, self._service.heartbeat_s)
        async with contextlib.aclosing(following) as events:
            async for event in events:
                yield heartbeat(job_id, now_us()) if event is None else event_message(event)

    async def _find_job(self, job_id: str) -> JobRecord:
        job = await self._database.read(lambda connection: job_store.find_job(connection, job_id))
        if job is None:
            raise _unknown_job(job_id)
        return job


def _filters(adapter: str, states: Iterable[int], enum: Any, prefix: str) -> list[str]:
    """The states to list, without their prefix. Raises Refusal for a bad adapter name or an unknown state."""
    findings = Findings()
    if adapter:
        findings.adapter("adapter", adapter)
    known = {number: name.removeprefix(prefix) for name, number in enum.items() if number}
    wanted = []
    for index, number in enumerate(states):
        findings.known(f"states[{index}]", number, known, ", ".join(prefix + name for name in known.values()))
        wanted.append(known.get(number, ""))
    findings.raise_if_any()
    return wanted


def _digest(request: Message) -> str:
    bare = type(request)()
    bare.CopyFrom(request)
    bare.ClearField("request_id")
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


def _not_built(method: str) -> Refusal:
    return Refusal(Kind.UNIMPLEMENTED, "NOT_IMPLEMENTED", f"This server does not implement {method} yet.")


def _unknown_job(job_id: str) -> Refusal:
    return Refusal(Kind.NOT_FOUND, "JOB_NOT_FOUND", f"There is no job {job_id[:80]!r}; ListJobs shows those there are.")
