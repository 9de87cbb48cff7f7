"""The fake server's answers, RPC by RPC."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import grpc

from lyra_adapters import convert
from lyra_adapters.models import (
    BaseModelState,
    BaseModelStatus,
    JobState,
    PointerChangeKind,
    ServiceStatus,
    VersionState,
)
from lyra_adapters.testing import serving
from lyra_adapters.testing.fault import Fault
from lyra_adapters.testing.jobs import ScriptedJob
from lyra_adapters.testing.pointers import Refused
from lyra_adapters.v1 import adapter_service_pb2 as pb
from lyra_adapters.v1.adapter_service_pb2_grpc import AdapterServiceServicer

if TYPE_CHECKING:
    from lyra_adapters.testing.server import FakeAdapterServer

Context = grpc.ServicerContext
DELETED = pb.VERSION_STATE_DELETED
T = TypeVar("T")


class FakeServicer(AdapterServiceServicer):
    """Answers like the real server as far as a caller's test needs it; trains nothing."""

    def __init__(self, fake: FakeAdapterServer) -> None:
        self._fake = fake

    def Train(self, request: pb.TrainRequest, context: Context) -> Iterator[pb.TrainEvent]:  # noqa: N802, D102
        self._fake.arrived("Train", request, context)
        job = self._fake.job_for(request)
        if job.request != request:
            _abort(context, "ALREADY_EXISTS", "REQUEST_ID_REUSED", "The request id was used with other content.")
        yield from self._stream(job, 0, context)

    def Watch(self, request: pb.WatchRequest, context: Context) -> Iterator[pb.TrainEvent]:  # noqa: N802, D102
        self._fake.arrived("Watch", request, context)
        job = self._job(request.job_id, context)
        if not 0 <= request.after_sequence <= job.visible:
            _abort(context, "INVALID_ARGUMENT", "INVALID_FIELD", f"after_sequence is beyond {job.visible}.")
        yield from self._stream(job, request.after_sequence, context)

    def _stream(self, job: ScriptedJob, after: int, context: Context) -> Iterator[pb.TrainEvent]:
        limit = job.breaks.popleft() if job.breaks else -1
        sent = 0
        while True:
            if sent == limit:
                # No details: what a client sees of a connection that broke.
                context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            event = job.wait_for(after + sent + 1, context.is_active)
            if event is None:
                return
            time.sleep(job.pause)
            if job.heartbeats:
                yield pb.TrainEvent(job_id=job.job_id, heartbeat=pb.Heartbeat())
            self._fake.settle(job)
            yield convert.encode_event(event)
            sent += 1
            if event.closes and sent != limit:
                return

    def Status(self, request: pb.StatusRequest, context: Context) -> pb.StatusResponse:  # noqa: N802, D102
        def status() -> pb.StatusResponse:
            if request.job_id:
                return pb.StatusResponse(job=convert.encode(self._job(request.job_id, context).to_job()))
            jobs = [job.to_job() for job in self._fake.jobs.values()]
            service = ServiceStatus(
                version="fake",
                device="cpu",
                base_models=(BaseModelStatus(alias="demo", state=BaseModelState.READY),),
                queued_jobs=tuple(job for job in jobs if job.state is JobState.QUEUED),
                running_jobs=tuple(job for job in jobs if job.state is JobState.RUNNING),
                adapters=self._fake.pointers.statuses(),
            )
            return pb.StatusResponse(service=convert.encode(service))

        return self._answer("Status", request, context, status)

    def List(self, request: pb.ListRequest, context: Context) -> pb.ListResponse:  # noqa: N802, D102
        def versions() -> pb.ListResponse:
            found = [
                replace(version, state=self._state(version.adapter, version.name, version.state))
                for version in reversed(self._fake.versions)
                if request.adapter in ("", version.adapter)
            ]
            states = set(request.states) or {convert.number(state) for state in VersionState} - {DELETED}
            found = [version for version in found if convert.number(version.state) in states]
            start, end, token = _page(request, len(found))
            answer = pb.ListResponse(next_page_token=token, total_size=len(found))
            answer.versions.extend(convert.encode(version) for version in found[start:end])
            if request.include_history:
                past = reversed(self._fake.pointers.history(request.adapter))
                answer.history.extend(convert.encode(change) for change in past)
            return answer

        return self._answer("List", request, context, versions)

    def _state(self, adapter: str, name: str, published: VersionState) -> VersionState:
        if published is VersionState.DELETED:
            return published
        if self._fake.pointers.active(adapter) == name:
            return VersionState.ACTIVE
        was = any(change.active == name for change in self._fake.pointers.history(adapter))
        return VersionState.RETIRED if was else published

    def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:  # noqa: N802, D102
        def jobs() -> pb.ListJobsResponse:
            found = [job.to_job() for job in reversed(list(self._fake.jobs.values()))]
            states = set(request.states)
            found = [
                job
                for job in found
                if request.adapter in ("", job.adapter) and (not states or convert.number(job.state) in states)
            ]
            start, end, token = _page(request, len(found))
            answer = pb.ListJobsResponse(next_page_token=token, total_size=len(found))
            answer.jobs.extend(convert.encode(job) for job in found[start:end])
            return answer

        return self._answer("ListJobs", request, context, jobs)

    def Rollback(self, request: pb.RollbackRequest, context: Context) -> pb.RollbackResponse:  # noqa: N802, D102
        def back() -> pb.RollbackResponse:
            adapter = request.adapter
            if request.task_id:
                jobs = [job.to_job() for job in self._fake.jobs.values()]
                adapters = sorted({job.adapter for job in jobs if job.task_id == request.task_id})
                if len(adapters) != 1:
                    code, reason = ("NOT_FOUND", "TASK_NOT_FOUND")
                    if adapters:
                        code, reason = ("FAILED_PRECONDITION", "SEVERAL_ADAPTERS")
                    _abort(context, code, reason, f"Task {request.task_id} trained {adapters}.")
                (adapter,) = adapters
            move = self._fake.pointers.back(
                adapter,
                request.to_version,
                actor=request.actor,
                reason=request.reason,
                expected=request.expected_active,
            )
            return pb.RollbackResponse(change=convert.encode(move.change), changed=move.changed)

        return self._answer("Rollback", request, context, back)

    def Activate(self, request: pb.ActivateRequest, context: Context) -> pb.ActivateResponse:  # noqa: N802, D102
        def activate() -> pb.ActivateResponse:
            name = f"{request.adapter}_{request.version}"
            if name not in (version.name for version in self._fake.versions if version.delete_time is None):
                _abort(context, "NOT_FOUND", "VERSION_NOT_FOUND", f"There is no version {name}.")
            move = self._fake.pointers.move(
                request.adapter,
                name,
                PointerChangeKind.ACTIVATED,
                actor=request.actor,
                reason=request.reason,
                expected=request.expected_active,
            )
            return pb.ActivateResponse(change=convert.encode(move.change), changed=move.changed)

        return self._answer("Activate", request, context, activate)

    def DeleteVersion(  # noqa: N802, D102
        self, request: pb.DeleteVersionRequest, context: Context
    ) -> pb.DeleteVersionResponse:
        def delete() -> pb.DeleteVersionResponse:
            name = f"{request.adapter}_{request.version.removeprefix(request.adapter + '_')}"
            found = next((version for version in self._fake.versions if version.name == name), None)
            if found is None:
                _abort(context, "NOT_FOUND", "VERSION_NOT_FOUND", f"There is no version {name}.")
            if self._fake.pointers.active(request.adapter) == name:
                _abort(context, "FAILED_PRECONDITION", "VERSION_IN_FORCE", f"{name} is in force.")
            gone = found
            if found.delete_time is None:
                gone = replace(
                    found,
                    state=VersionState.DELETED,
                    delete_time=datetime.now(UTC),
                    delete_actor=request.actor,
                    delete_reason=request.reason,
                )
                self._fake.versions[self._fake.versions.index(found)] = gone
                self._fake.files.pop(name, None)
            return pb.DeleteVersionResponse(version=convert.encode(gone), changed=gone is not found)

        return self._answer("DeleteVersion", request, context, delete)

    def DeleteFeedback(  # noqa: N802, D102
        self, request: pb.DeleteFeedbackRequest, context: Context
    ) -> pb.DeleteFeedbackResponse:
        def delete() -> pb.DeleteFeedbackResponse:
            reviews = self._fake.reviews
            gone = [k for k, v in reviews.items() if v.task_id in request.task_ids or k in request.sample_ids]
            for id_ in gone:
                del reviews[id_]
            return pb.DeleteFeedbackResponse(reviews=len(gone))

        return self._answer("DeleteFeedback", request, context, delete)

    def Cancel(self, request: pb.CancelRequest, context: Context) -> pb.CancelResponse:  # noqa: N802, D102
        def cancel() -> pb.CancelResponse:
            job = self._job(request.job_id, context)
            if job.closed:
                _abort(context, "FAILED_PRECONDITION", "JOB_FINISHED", f"Job {job.job_id} has ended.")
            job.cancel(request.actor, request.reason)
            return pb.CancelResponse(job=convert.encode(job.to_job()))

        return self._answer("Cancel", request, context, cancel)

    def Classify(self, request: pb.ClassifyRequest, context: Context) -> pb.ClassifyResponse:  # noqa: N802, D102
        def classify() -> pb.ClassifyResponse:
            adapter = request.adapter or "user_feedback"
            version = request.version if request.version in ("", "base") else f"{adapter}_{request.version}"
            answer = pb.ClassifyResponse(version=version or self._fake.pointers.active(adapter), base_model="demo")
            for _ in request.pairs:
                probabilities = pb.Probabilities(supports=0.7, refutes=0.1, neutral=0.2)
                answer.results.add(label=pb.LABEL_SUPPORTS, probabilities=probabilities)
            return answer

        return self._answer("Classify", request, context, classify)

    def Report(self, request: pb.ReportRequest, context: Context) -> pb.ReportResponse:  # noqa: N802, D102
        def report() -> pb.ReportResponse:
            adapter = request.adapter or "user_feedback"
            name = f"{adapter}_{request.version}" if request.version else self._fake.pointers.active(adapter)
            found = [version for version in self._fake.versions if version.name == name]
            if not found:
                _abort(context, "NOT_FOUND", "VERSION_NOT_FOUND", f"There is no version {name}.")
            rows = self._fake.report_rows
            start, end, token = _page(request, len(rows))
            version: pb.AdapterVersion = convert.encode(found[0])
            return pb.ReportResponse(
                version=version,
                rows=rows[start:end],
                next_page_token=token,
                total_size=len(rows),
                champion_metrics=version.metrics_before if version.HasField("metrics_before") else None,
                challenger_metrics=version.metrics_after if version.HasField("metrics_after") else None,
            )

        return self._answer("Report", request, context, report)

    def RecordFeedback(  # noqa: N802, D102
        self, request: pb.RecordFeedbackRequest, context: Context
    ) -> pb.RecordFeedbackResponse:
        def record() -> pb.RecordFeedbackResponse:
            answer = pb.RecordFeedbackResponse()
            for review in request.reviews:
                id_ = review.sample.id or hashlib.sha256(review.sample.SerializeToString()).hexdigest()[:16]
                before = self._fake.reviews.get(id_)
                answer.ids.append(id_)
                answer.stored += before is None
                answer.unchanged += before == review
                answer.revised += before not in (None, review)
                self._fake.reviews[id_] = review
            return answer

        return self._answer("RecordFeedback", request, context, record)

    def ListFeedback(  # noqa: N802, D102
        self, request: pb.ListFeedbackRequest, context: Context
    ) -> pb.ListFeedbackResponse:
        def listing() -> pb.ListFeedbackResponse:
            found = [
                (id_, review)
                for id_, review in reversed(self._fake.reviews.items())
                if (not request.task_ids or review.task_id in request.task_ids)
                and (not request.domains or review.domain in request.domains)
            ]
            start, end, token = _page(request, len(found))
            answer = pb.ListFeedbackResponse(next_page_token=token, total_size=len(found))
            for id_, review in found[start:end]:
                answer.reviews.add(review=review, revision=1).review.sample.id = id_
            if request.include_summary:
                answer.summary.reviews = answer.summary.revisions = answer.summary.samples = len(found)
            return answer

        return self._answer("ListFeedback", request, context, listing)

    def WatchAdapter(  # noqa: N802, D102
        self, request: pb.WatchAdapterRequest, context: Context
    ) -> Iterator[pb.PointerChange]:
        self._fake.arrived("WatchAdapter", request, context)
        yield from serving.watch_adapter(self._fake, request, context)

    def Download(self, request: pb.DownloadRequest, context: Context) -> Iterator[pb.DownloadResponse]:  # noqa: N802, D102
        self._fake.arrived("Download", request, context)
        yield from serving.download(self._fake, request, context)

    def _answer(self, rpc: str, request: Any, context: Context, make: Callable[[], T]) -> T:
        self._fake.arrived(rpc, request, context)
        scripted = self._fake.scripted_answer(rpc, request)
        if scripted is not None:
            return cast(T, scripted)
        try:
            return make()
        except Refused as refused:
            refused.fault.abort(context)

    def _job(self, job_id: str, context: Context) -> ScriptedJob:
        job = self._fake.jobs.get(job_id)
        if job is None:
            _abort(context, "NOT_FOUND", "JOB_NOT_FOUND", f"There is no job {job_id}.")
        return job


def _page(request: Any, total: int) -> tuple[int, int, str]:
    """First, last + 1 and next token of the page that a request asks for; a token is the first item's place."""
    start = int(request.page_token or 0)
    end = start + (request.page_size or 100)
    return start, end, str(end) if end < total else ""


def _abort(context: Context, code: str, reason: str, message: str) -> NoReturn:
    Fault(code=grpc.StatusCode[code], reason=reason, message=message).abort(context)
