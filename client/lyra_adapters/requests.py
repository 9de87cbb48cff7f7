"""Builds every request from what callers pass, and says how to read its answer. No I/O: both clients use it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from lyra_adapters import convert
from lyra_adapters.models.base import Model
from lyra_adapters.models.feedback import DeletedFeedback, FeedbackSummary, RecordedReview
from lyra_adapters.models.report import Report
from lyra_adapters.models.samples import FeedbackSource, Pair, Review, Sample
from lyra_adapters.models.service import Classifications, Job, JobState, ServiceStatus
from lyra_adapters.models.training import Activation, ConflictPolicy, LoraConfig, TrainingConfig, TriggerPolicy
from lyra_adapters.models.versions import (
    AdapterFormat,
    AdapterVersion,
    DeletedVersion,
    Page,
    PointerChange,
    PointerMove,
    VersionState,
)
from lyra_adapters.v1 import adapter_service_pb2 as pb

T = TypeVar("T")
M = TypeVar("M", bound=Model)

Fields: TypeAlias = Mapping[str, Any]
SampleLike: TypeAlias = Sample | Fields
ReviewLike: TypeAlias = Review | Fields
PairLike: TypeAlias = Pair | Fields | tuple[str, str]
LoraLike: TypeAlias = LoraConfig | Fields
TrainingLike: TypeAlias = TrainingConfig | Fields
TriggerLike: TypeAlias = TriggerPolicy | Fields
FeedbackLike: TypeAlias = FeedbackSource | Fields


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One unary call: the RPC's name, its request, and how its answer becomes a result."""

    rpc: str
    request: Any
    read: Callable[[Any], T]


def new_request_id() -> str:
    """A fresh id for one logical call; the same id goes with every attempt of it."""
    return str(uuid.uuid4())


def train(
    samples: Iterable[SampleLike] | None,
    *,
    adapter: str,
    task_id: str,
    actor: str,
    domain: str,
    feedback: FeedbackLike | bool | None,
    base_model: str,
    lora: LoraLike | None,
    training: TrainingLike | None,
    trigger: TriggerLike | None,
    activation: Activation | str | None,
    continue_from: str,
    conflicts: ConflictPolicy | str | None,
    request_id: str | None,
) -> pb.TrainRequest:
    """The TrainRequest. It always has a request id, so that it can be sent again."""
    request = pb.TrainRequest(
        request_id=request_id or new_request_id(),
        adapter=adapter,
        task_id=task_id,
        actor=actor,
        domain=domain,
        base_model=base_model,
        continue_from=continue_from,
    )
    if samples is not None:
        request.samples.extend(_each(Sample, samples, "samples"))
    if feedback is not None and feedback is not False:
        source = FeedbackSource() if feedback is True else feedback
        request.feedback.CopyFrom(_one(FeedbackSource, source, "feedback"))
    if lora is not None:
        request.lora.CopyFrom(_one(LoraConfig, lora, "lora"))
    if training is not None:
        request.training.CopyFrom(_one(TrainingConfig, training, "training"))
    if trigger is not None:
        request.trigger.CopyFrom(_one(TriggerPolicy, trigger, "trigger"))
    if activation is not None:
        request.activation = convert.number(convert.word(Activation, activation, "activation"))
    if conflicts is not None:
        request.conflicts = convert.number(convert.word(ConflictPolicy, conflicts, "conflicts"))
    return request


def status() -> Call[ServiceStatus]:
    """The state of the service."""
    return Call("Status", pb.StatusRequest(), lambda answer: convert.decode(ServiceStatus, answer.service))


def job(job_id: str) -> Call[Job]:
    """The state of one job."""
    # Without an id the server would answer for the whole service.
    if not job_id:
        raise convert.refused("job_id", "must not be empty")
    return Call("Status", pb.StatusRequest(job_id=job_id), lambda answer: convert.decode(Job, answer.job))


def versions(
    *,
    adapter: str,
    states: Iterable[VersionState | str],
    task_id: str,
    page_size: int,
    page_token: str,
    include_history: bool,
) -> Call[Page[AdapterVersion]]:
    """One page of versions."""
    request = pb.ListRequest(
        adapter=adapter, task_id=task_id, page_size=page_size, page_token=page_token, include_history=include_history
    )
    request.states.extend(convert.number(convert.word(VersionState, state, "states")) for state in states)

    def read(answer: pb.ListResponse) -> Page[AdapterVersion]:
        return Page(
            items=tuple(convert.decode(AdapterVersion, version) for version in answer.versions),
            next_page_token=answer.next_page_token,
            total_size=answer.total_size,
            history=tuple(convert.decode(PointerChange, change) for change in answer.history),
        )

    return Call("List", request, read)


def jobs(
    *, adapter: str, states: Iterable[JobState | str], task_id: str, page_size: int, page_token: str
) -> Call[Page[Job]]:
    """One page of jobs."""
    request = pb.ListJobsRequest(adapter=adapter, task_id=task_id, page_size=page_size, page_token=page_token)
    request.states.extend(convert.number(convert.word(JobState, state, "states")) for state in states)

    def read(answer: pb.ListJobsResponse) -> Page[Job]:
        return Page(
            items=tuple(convert.decode(Job, item) for item in answer.jobs),
            next_page_token=answer.next_page_token,
            total_size=answer.total_size,
        )

    return Call("ListJobs", request, read)


def rollback(
    *,
    adapter: str,
    task_id: str,
    to_version: str,
    reason: str,
    actor: str,
    expected_active: str,
    request_id: str | None,
) -> Call[PointerMove]:
    """Moves a pointer back."""
    request = pb.RollbackRequest(
        adapter=adapter,
        task_id=task_id,
        to_version=to_version,
        reason=reason,
        actor=actor,
        expected_active=expected_active,
        request_id=request_id or new_request_id(),
    )
    return Call("Rollback", request, _move)


def activate(
    *,
    adapter: str,
    version: str,
    reason: str,
    actor: str,
    expected_active: str,
    allow_rejected: bool,
    request_id: str | None,
) -> Call[PointerMove]:
    """Puts a version in force."""
    request = pb.ActivateRequest(
        adapter=adapter,
        version=version,
        reason=reason,
        actor=actor,
        expected_active=expected_active,
        allow_rejected=allow_rejected,
        request_id=request_id or new_request_id(),
    )
    return Call("Activate", request, _move)


def delete_version(adapter: str, version: str, *, reason: str, actor: str) -> Call[DeletedVersion]:
    """Deletes a version's files."""
    request = pb.DeleteVersionRequest(adapter=adapter, version=version, reason=reason, actor=actor)
    return Call("DeleteVersion", request, partial(convert.decode, DeletedVersion))


def delete_feedback(task_ids: Iterable[str], sample_ids: Iterable[str]) -> Call[DeletedFeedback]:
    """Deletes texts."""
    request = pb.DeleteFeedbackRequest(task_ids=list(task_ids), sample_ids=list(sample_ids))
    return Call("DeleteFeedback", request, partial(convert.decode, DeletedFeedback))


def cancel(job_id: str, *, actor: str, reason: str) -> Call[Job]:
    """Stops a job."""
    request = pb.CancelRequest(job_id=job_id, actor=actor, reason=reason)
    return Call("Cancel", request, lambda answer: convert.decode(Job, answer.job))


def classify(pairs: Iterable[PairLike], *, adapter: str, version: str, base_model: str) -> Call[Classifications]:
    """Labels pairs."""
    request = pb.ClassifyRequest(adapter=adapter, version=version, base_model=base_model)
    named = ({"premise": p[0], "hypothesis": p[1]} if isinstance(p, tuple) and len(p) == 2 else p for p in pairs)
    request.pairs.extend(_each(Pair, named, "pairs"))
    return Call("Classify", request, lambda answer: convert.decode(Classifications, answer))


def report(*, adapter: str, version: str, page_token: str = "") -> Call[tuple[Report, str]]:
    """One page of a report, and the token of the next."""

    def read(answer: pb.ReportResponse) -> tuple[Report, str]:
        return convert.decode(Report, answer), answer.next_page_token

    return Call("Report", pb.ReportRequest(adapter=adapter, version=version, page_token=page_token), read)


def reviews(values: Iterable[ReviewLike]) -> list[Any]:
    """The messages of reviews; feedback_pages.py makes calls of them."""
    return _each(Review, values, "reviews")


def feedback(
    *,
    task_ids: Iterable[str],
    domains: Iterable[str],
    reviewed_after: datetime | None,
    reviewed_before: datetime | None,
    used_by: str,
    not_used_by: str,
    page_size: int = 0,
    page_token: str = "",
) -> Call[Page[RecordedReview]]:
    """One page of recorded reviews."""
    source = FeedbackSource(
        task_ids=tuple(task_ids),
        domains=tuple(domains),
        reviewed_after=reviewed_after,
        reviewed_before=reviewed_before,
    )
    filters = _one(FeedbackSource, source, "feedback")
    request = pb.ListFeedbackRequest(
        task_ids=filters.task_ids,
        domains=filters.domains,
        used_by=used_by,
        not_used_by=not_used_by,
        page_size=page_size,
        page_token=page_token,
    )
    for field in ("reviewed_after", "reviewed_before"):
        if filters.HasField(field):
            getattr(request, field).CopyFrom(getattr(filters, field))

    def read(answer: pb.ListFeedbackResponse) -> Page[RecordedReview]:
        return Page(
            items=tuple(convert.decode(RecordedReview, review) for review in answer.reviews),
            next_page_token=answer.next_page_token,
            total_size=answer.total_size,
        )

    return Call("ListFeedback", request, read)


def feedback_summary(**filters: Any) -> Call[FeedbackSummary]:
    """Counts of recorded reviews; filters as `feedback`."""
    request = feedback(**filters, page_size=1).request
    request.include_summary = True
    return Call("ListFeedback", request, lambda answer: convert.decode(FeedbackSummary, answer.summary))


def download(
    adapter: str, *, version: str, format: AdapterFormat | str | None, file: str, archive: bool
) -> pb.DownloadRequest:
    """Asks for a version's files."""
    request = pb.DownloadRequest(adapter=adapter, version=version, file=file, archive=archive)
    if format is not None:
        request.format = convert.number(convert.word(AdapterFormat, format, "format"))
    return request


def _move(answer: Any) -> PointerMove:
    return convert.decode(PointerMove, answer)


def _each(kind: type[M], values: Iterable[Any], path: str) -> list[Any]:
    if isinstance(values, (str, bytes, Mapping)):
        raise convert.refused(path, f"must be a list, not {type(values).__name__}")
    return [_one(kind, value, f"{path}[{i}]") for i, value in enumerate(values)]


def _one(kind: type[M], value: Any, path: str) -> Any:
    model = convert.coerce(kind, value, path)
    try:
        return convert.encode(model)
    except ValueError as error:  # beyond 32 bits, or text that is no Unicode
        raise convert.refused(path, f"cannot be sent: {error}") from None
