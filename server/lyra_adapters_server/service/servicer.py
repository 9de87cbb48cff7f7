"""The RPCs of protos/lyra_adapters/v1/adapter_service.proto: which function carries each out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc
import structlog
from lyra_adapters.v1 import adapter_service_pb2 as pb
from lyra_adapters.v1 import adapter_service_pb2_grpc as pb_grpc

from lyra_adapters_server import failpoints
from lyra_adapters_server.errors import Violation, invalid
from lyra_adapters_server.jobs import acceptance
from lyra_adapters_server.registry.names import is_adapter_name
from lyra_adapters_server.service import changes, deletion, feedback, listings, report
from lyra_adapters_server.service.auth.caller import calling
from lyra_adapters_server.service.auth.scoping import check_adapter, in_scope
from lyra_adapters_server.service.base_models import find_base
from lyra_adapters_server.service.classification import Classifier
from lyra_adapters_server.service.context import Service
from lyra_adapters_server.service.downloading import download
from lyra_adapters_server.service.event_streams import EventStreams
from lyra_adapters_server.service.fields import content_digest
from lyra_adapters_server.service.following import watch_adapter
from lyra_adapters_server.service.status import service_status
from lyra_adapters_server.service.training_request import DEFAULT_ADAPTER, check_request_id, to_new_job
from lyra_adapters_server.storage import jobs as job_store
from lyra_adapters_server.storage.jobs import JobRecord
from lyra_adapters_server.storage.trouble import storage_trouble

log = structlog.get_logger()

Context = grpc.aio.ServicerContext[Any, Any]


class AdapterServicer(pb_grpc.AdapterServiceServicer):
    """The service. Refusals are raised; the interceptor turns them into statuses."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._classifier = Classifier(service)
        self._streams = EventStreams(service.log, service.heartbeat_s, service.metrics)

    async def Train(self, request: pb.TrainRequest, context: Context) -> AsyncIterator[pb.TrainEvent]:  # noqa: N802
        """Creates a job, then streams its events."""
        job = await self._accept(request)
        async with contextlib.aclosing(self._follow(job, 0)) as events:
            with storage_trouble(), failpoints.step("acknowledge"):
                yield await anext(events)
            async for event in events:
                yield event

    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.TrainEvent]:  # noqa: N802
        """Streams a job's events from any point."""
        job = await changes.find_job(self._service, request.job_id)
        after = request.after_sequence
        if not 0 <= after <= job.last_sequence:
            raise invalid([Violation("after_sequence", f"is {after}; must be from 0 to {job.last_sequence}")])
        if job.finished and after == job.last_sequence:
            return
        async with contextlib.aclosing(self._follow(job, after)) as events:
            async for event in events:
                yield event

    async def Status(self, request: pb.StatusRequest, context: Context) -> pb.StatusResponse:  # noqa: N802
        """One job, or the whole service."""
        if request.job_id:
            return pb.StatusResponse(job=await listings.job_status(self._service, request.job_id))
        return pb.StatusResponse(service=await service_status(self._service))

    async def List(self, request: pb.ListRequest, context: Context) -> pb.ListResponse:  # noqa: N802
        """Versions, newest first."""
        return await listings.list_versions(self._service, request)

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:  # noqa: N802
        """Jobs, newest first."""
        return await listings.list_jobs(self._service, request)

    async def Rollback(self, request: pb.RollbackRequest, context: Context) -> pb.RollbackResponse:  # noqa: N802
        """Moves a pointer back."""
        return await changes.rollback(self._service, request)

    async def Activate(self, request: pb.ActivateRequest, context: Context) -> pb.ActivateResponse:  # noqa: N802
        """Puts a version in force."""
        return await changes.activate(self._service, request)

    async def Cancel(self, request: pb.CancelRequest, context: Context) -> pb.CancelResponse:  # noqa: N802
        """Stops a job."""
        return await changes.cancel(self._service, request)

    async def Classify(self, request: pb.ClassifyRequest, context: Context) -> pb.ClassifyResponse:  # noqa: N802
        """Labels pairs."""
        return await self._classifier.classify(request)

    async def Report(self, request: pb.ReportRequest, context: Context) -> pb.ReportResponse:  # noqa: N802
        """How a version did, row by row."""
        return await report.report(self._service, request)

    async def RecordFeedback(  # noqa: N802
        self, request: pb.RecordFeedbackRequest, context: Context
    ) -> pb.RecordFeedbackResponse:
        """Stores reviews."""
        return await feedback.record_feedback(self._service, request)

    async def ListFeedback(  # noqa: N802
        self, request: pb.ListFeedbackRequest, context: Context
    ) -> pb.ListFeedbackResponse:
        """Recorded reviews, newest first."""
        return await feedback.list_feedback(self._service, request)

    async def DeleteVersion(  # noqa: N802
        self, request: pb.DeleteVersionRequest, context: Context
    ) -> pb.DeleteVersionResponse:
        """Deletes a version's files."""
        return await deletion.version(self._service, request)

    async def DeleteFeedback(  # noqa: N802
        self, request: pb.DeleteFeedbackRequest, context: Context
    ) -> pb.DeleteFeedbackResponse:
        """Deletes users' texts."""
        return await deletion.feedback(self._service, request)

    async def WatchAdapter(  # noqa: N802
        self, request: pb.WatchAdapterRequest, context: Context
    ) -> AsyncIterator[pb.PointerChange]:
        """Streams the changes of what is in force."""
        async with contextlib.aclosing(watch_adapter(self._service, request)) as changes:
            async for change in changes:
                yield change

    async def Download(  # noqa: N802
        self, request: pb.DownloadRequest, context: Context
    ) -> AsyncIterator[pb.DownloadResponse]:
        """Streams a version's files."""
        async with contextlib.aclosing(download(self._service, request)) as pieces:
            async for piece in pieces:
                yield piece

    async def _accept(self, request: pb.TrainRequest) -> JobRecord:
        service = self._service
        service.stopping.refuse()
        principal = calling().principal
        check_request_id(request)
        # What is no name is refused as such, below.
        if is_adapter_name(request.adapter or DEFAULT_ADAPTER):
            check_adapter(request.adapter or DEFAULT_ADAPTER)
        if not in_scope(request.continue_from):
            raise acceptance.unknown_parent(request.continue_from)
        # On threads: to look at 20,000 rows takes long enough for other calls to notice.
        digest = await asyncio.to_thread(content_digest, request)
        if request.request_id:
            # A retry is answered even while the base is not ready, or the training no longer due.
            earlier = await service.database.read(
                lambda connection: job_store.find_request(connection, principal, request.request_id.lower())
            )
            if earlier is not None:
                return acceptance.same_request(earlier, digest)
        card = find_base(service.bases, service.executor, request.base_model)
        new = await asyncio.to_thread(to_new_job, request, principal, digest, card)
        job, created = await acceptance.accept(service.database, new, service.queue_limits)
        if created:
            log.info("job_state", job_id=job.job_id, adapter=job.adapter, state=job.state)
        service.supervisor.wake()
        return job

    async def _follow(self, job: JobRecord, after: int) -> AsyncGenerator[pb.TrainEvent, None]:
        job_id = job.job_id
        if job.finished and not await self._service.database.read(
            lambda connection: job_store.events_after(connection, job_id, after, 1)
        ):
            raise changes.forgotten_events(job_id)
        async with contextlib.aclosing(self._streams.follow(job_id, after)) as events:
            async for event in events:
                yield event
