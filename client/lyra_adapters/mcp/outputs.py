"""What tools answer. Pydantic makes the tools' output schemas of these; `next` says what to do with the answer."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, Field

from lyra_adapters import models

Outcome = Literal["BETTER", "NOT_WORSE", "UNDECIDED", "WORSE", "UNSPECIFIED"]
Label = Literal["SUPPORTS", "REFUTES", "NEUTRAL"]
NEXT = "What to do now."


class VerdictView(BaseModel):
    """How a new version compares with what was in force, on the rows held out."""

    outcome: Outcome
    champion: str = Field(description="What was in force: a version's full name, or base.")
    accuracy_before: float | None = Field(description="Of the champion.")
    accuracy_after: float | None = Field(description="Of the new version.")
    held_out: int = Field(description="Rows that both were scored on.")
    explanation: str
    activated: bool = Field(description="Whether the new version was put in force.")
    held: str = Field(description="Why it was not, although the verdict allows it.")

    @classmethod
    def of(cls, verdict: models.Verdict) -> Self:
        """The view of a verdict."""
        before, after = verdict.champion_metrics, verdict.challenger_metrics
        return cls(
            outcome=verdict.outcome.value,
            champion=verdict.champion,
            accuracy_before=before.accuracy if before else None,
            accuracy_after=after.accuracy if after else None,
            held_out=after.samples if after else 0,
            explanation=verdict.explanation,
            activated=verdict.activated,
            held=verdict.held,
        )


class JobView(BaseModel):
    """A training job."""

    job_id: str
    state: Literal["QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "UNSPECIFIED"]
    finished: bool = Field(description="Whether the job has ended, well or not.")
    adapter: str
    task_id: str
    actor: str = Field(description="Who asked for it.")
    domain: str
    base_model: str
    samples: int = Field(description="Reviews trained on and held out.")
    queue_position: int = Field(description="While queued: 1 is next.")
    fraction_done: float = Field(description="Share of the training steps done, 0 to 1.")
    seconds_left: float | None = Field(description="At this speed, where known.")
    loss: float | None
    version: str = Field(description="Full name of the version it published; empty until then.")
    verdict: VerdictView | None
    failure: str = Field(description="Why it failed; empty otherwise.")
    cancel_requested: bool
    create_time: datetime | None
    end_time: datetime | None
    next: str = Field(description=NEXT)

    @classmethod
    def of(cls, job: models.Job) -> Self:
        """The view of a job."""
        progress = job.progress
        return cls(
            job_id=job.job_id,
            state=job.state.value,
            finished=ended(job),
            adapter=job.adapter,
            task_id=job.task_id,
            actor=job.actor,
            domain=job.domain,
            base_model=job.base_model,
            samples=job.samples,
            queue_position=job.queue_position,
            fraction_done=progress.fraction_done if progress else 0.0,
            seconds_left=progress.eta.total_seconds() if progress and progress.eta else None,
            loss=progress.loss if progress else None,
            version=job.version,
            verdict=VerdictView.of(job.verdict) if job.verdict else None,
            failure=f"{job.failure.reason}: {job.failure.message}" if job.failure else "",
            cancel_requested=job.cancel_requested,
            create_time=job.create_time,
            end_time=job.end_time,
            next=_next(job),
        )


def ended(job: models.Job) -> bool:
    """Whether a job is over."""
    return job.state in (models.JobState.SUCCEEDED, models.JobState.FAILED, models.JobState.CANCELLED)


def _next(job: models.Job) -> str:
    match job.state:
        case models.JobState.SUCCEEDED if job.verdict and job.verdict.activated:
            return f"{job.version} is in force. Check it with classify_pairs; calibrate_rollback takes it back."
        case models.JobState.SUCCEEDED:
            why = (job.verdict.held or job.verdict.explanation) if job.verdict else ""
            return (
                f"{job.version} was published and is not in force. {why} A person who looked at it can put it there: "
                f"lyra-adapters activate {job.adapter} {job.version.rpartition('_')[2]}"
            )
        case models.JobState.FAILED:
            return "Nothing was published; what was in force still is. Tell the user why it failed."
        case models.JobState.CANCELLED:
            return "Nothing was published; what was in force still is."
        case _:
            return f"Call calibrate_wait with job_id {job.job_id}; calibrate_cancel stops it."


class DueView(BaseModel):
    """Whether there are reviews enough to train on, condition by condition."""

    due: bool = Field(description="Whether both conditions hold.")
    have_samples: int = Field(description="Samples recorded, duplicates merged.")
    need_samples: int
    have_error_rate: float | None = Field(
        description="Share of reviewed predictions that were wrong. Null where no original label is known; then it is "
        "not asked for."
    )
    need_error_rate: float
    explanation: str

    @classmethod
    def of(cls, due: models.TrainingDue) -> Self:
        """The view of what Status says."""
        return cls(
            due=due.due,
            have_samples=due.have_samples,
            need_samples=due.need_samples,
            have_error_rate=due.have_error_rate,
            need_error_rate=round(due.need_error_rate, 6),
            explanation=due.explanation,
        )


class Calibration(BaseModel):
    """Whether training started, and what is missing if it did not."""

    started: bool
    job_id: str = Field(description="The job; empty if none was started.")
    job: JobView | None
    missing: DueView | None = Field(description="What is there and what is needed, where training is not due.")
    next: str = Field(description=NEXT)


class BaseModelView(BaseModel):
    """One base model of the service."""

    alias: str
    state: Literal["UNLOADED", "LOADING", "READY", "FAILED", "UNSPECIFIED"]
    error: str


class AdapterView(BaseModel):
    """What is in force under an adapter's name."""

    adapter: str
    in_force: str = Field(description="Full name of the version, or base.")
    pointer_revision: int
    change_time: datetime | None
    versions: int
    training_due: DueView | None

    @classmethod
    def of(cls, status: models.AdapterStatus) -> Self:
        """The view of an adapter."""
        return cls(
            adapter=status.adapter,
            in_force=status.active,
            pointer_revision=status.pointer_revision,
            change_time=status.change_time,
            versions=status.versions,
            training_due=DueView.of(status.training_due) if status.training_due else None,
        )


class ServiceView(BaseModel):
    """The service."""

    version: str
    device: str
    base_models: list[BaseModelView]
    running_jobs: list[JobView]
    queued_jobs: list[JobView]
    queue_length: int
    adapters: list[AdapterView]

    @classmethod
    def of(cls, status: models.ServiceStatus) -> Self:
        """The view of the service."""
        return cls(
            version=status.version,
            device=status.device,
            base_models=[BaseModelView(alias=b.alias, state=b.state.value, error=b.error) for b in status.base_models],
            running_jobs=[JobView.of(job) for job in status.running_jobs],
            queued_jobs=[JobView.of(job) for job in status.queued_jobs],
            queue_length=status.queue_length,
            adapters=[AdapterView.of(adapter) for adapter in status.adapters],
        )


class Status(BaseModel):
    """One job, or the service where none was asked for."""

    job: JobView | None = None
    service: ServiceView | None = None


class VersionView(BaseModel):
    """A version of an adapter."""

    name: str = Field(description="The full name.")
    version: str
    state: Literal["CANDIDATE", "ACTIVE", "RETIRED", "REJECTED", "DELETED", "UNSPECIFIED"]
    task_id: str
    domain: str
    actor: str = Field(description="Who asked for it.")
    create_time: datetime | None
    base_model: str
    continued_from: str
    training_samples: int
    validation_samples: int
    verdict: VerdictView | None

    @classmethod
    def of(cls, version: models.AdapterVersion) -> Self:
        """The view of a version."""
        return cls(
            name=version.name,
            version=version.version,
            state=version.state.value,
            task_id=version.task_id,
            domain=version.domain,
            actor=version.actor,
            create_time=version.create_time,
            base_model=version.base_model,
            continued_from=version.continued_from,
            training_samples=version.training_samples,
            validation_samples=version.validation_samples,
            verdict=VerdictView.of(version.verdict) if version.verdict else None,
        )


class ChangeView(BaseModel):
    """A change of what is in force."""

    pointer_revision: int
    in_force: str
    previous: str
    kind: Literal["PUBLISHED", "ACTIVATED", "ROLLED_BACK", "UNSPECIFIED"]
    actor: str
    reason: str
    time: datetime | None

    @classmethod
    def of(cls, change: models.PointerChange) -> Self:
        """The view of a change."""
        return cls(
            pointer_revision=change.pointer_revision,
            in_force=change.active,
            previous=change.previous,
            kind=change.kind.value,
            actor=change.actor,
            reason=change.reason,
            time=change.time,
        )


class Versions(BaseModel):
    """Versions, newest first."""

    versions: list[VersionView]
    total: int = Field(description="Versions in all pages.")
    next_page_token: str = Field(description="For the next page; empty on the last.")
    history: list[ChangeView] = Field(description="Changes of what is in force, newest first, where asked for.")


class TouchedTask(BaseModel):
    """Another task that trained the adapter: its predictions change too."""

    task_id: str
    versions: list[str]


class RolledBack(BaseModel):
    """What a rollback did."""

    changed: bool = Field(description="False if it was already so.")
    adapter: str
    in_force: str = Field(description="What is in force now: a version's full name, or base.")
    previous: str = Field(description="What was in force before.")
    pointer_revision: int
    also_touched: list[TouchedTask] = Field(description="Other tasks that trained this adapter.")
    next: str = Field(description=NEXT)


class Recorded(BaseModel):
    """What was stored."""

    stored: int = Field(description="New reviews.")
    unchanged: int = Field(description="Reviews that were there with the same content.")
    revised: int = Field(description="Reviews that became a new revision.")
    ids: list[str] = Field(description="In the call's order.")
    training_due: DueView | None = Field(description="Whether that is enough to train on.")
    next: str = Field(description=NEXT)


class LabelView(BaseModel):
    """The label of a pair, and the three probabilities."""

    label: Label
    supports: float
    refutes: float
    neutral: float
    truncated: bool = Field(description="Whether the premise was too long and was cut.")


class Labels(BaseModel):
    """Labels in the call's order, and what gave them."""

    results: list[LabelView]
    version: str = Field(description="Full name of the version used, or base.")
    base_model: str
