"""The events of a training job, one dataclass a kind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from lyra_adapters.models.base import Model, Word, plain
from lyra_adapters.models.scores import Metrics, Verdict
from lyra_adapters.models.versions import AdapterVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued(Model):
    """The job is durable and waits for its turn.

    Attributes:
        position: Its place in the queue when it was accepted; 1 is next.
        merged_duplicates: Rows merged because the same pair came more than once with the same label.
        dropped_conflicts: Rows dropped in favour of a newer one with another label.
        merged_near_duplicates: Recorded reviews merged because their pairs differ in punctuation or spelling alone.
    """

    position: int = 0
    merged_duplicates: int = 0
    dropped_conflicts: int = 0
    merged_near_duplicates: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Model):
    """The trainer began to work on the job.

    Attributes:
        attempt: Which try this is, from 1.
        training_samples: Rows of the training part, inner rows included.
        validation_samples: Rows held out.
        total_steps: Optimizer steps planned; early stopping may end before.
        device: For example `cpu` or `cuda:0 (NVIDIA H100)`.
        dtype: Number format of the frozen body, for example `bfloat16`.
        trainable_parameters: Parameters of the adapter.
        inner_samples: Of `training_samples`, those that choose the best step and the temperature.
        replayed_general_rows: General rows that are trained on beside them, against forgetting.
        distilled_pairs: Recombined pairs that are trained on beside them with the answers of what it starts from.
    """

    attempt: int = 0
    training_samples: int = 0
    validation_samples: int = 0
    total_steps: int = 0
    device: str = ""
    dtype: str = ""
    trainable_parameters: int = 0
    inner_samples: int = 0
    replayed_general_rows: int = 0
    distilled_pairs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Model):
    """Training moved on.

    Attributes:
        step: Optimizer steps done.
        total_steps: Optimizer steps planned.
        epoch: Epochs done, with a fraction.
        loss: Mean training loss (nats per row) since the last progress event.
        learning_rate: Learning rate of the last step.
        tokens_per_second: Training speed, without padding.
        fraction_done: Share of the planned steps that is done, 0 to 1.
        eta: Time left at this speed, evaluations included.
        run: Which of the job's runs this is, from 1; steps count through all of them.
        runs: Runs planned: one for each candidate and fold, and a last one over all rows after folds.
        run_name: What this run is; empty: there is but one.
    """

    step: int = 0
    total_steps: int = 0
    epoch: float = 0.0
    loss: float = 0.0
    learning_rate: float = 0.0
    tokens_per_second: float = 0.0
    fraction_done: float = 0.0
    eta: timedelta | None = None
    run: int = 0
    runs: int = 0
    run_name: str = ""


class EvaluationStage(Word):
    """When in a job an evaluation was made."""

    UNSPECIFIED = "UNSPECIFIED"
    BEFORE = "BEFORE"
    VALIDATION = "VALIDATION"
    AFTER = "AFTER"
    CHAMPION = "CHAMPION"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation(Model):
    """The model was scored: on the held-out rows, or while it trains on inner rows.

    Attributes:
        stage: When in the job.
        subject: What was scored: a version's full name, `base`, or empty for the adapter in training.
        metrics: The scores.
        step: Optimizer steps done.
        best: Whether this is the best step so far in this run: the last that is not clearly worse than the lowest loss.
        run: The run, as in Progress; 0: of none.
        run_name: As in Progress.
    """

    stage: EvaluationStage = EvaluationStage.UNSPECIFIED
    subject: str = ""
    metrics: Metrics | None = None
    step: int = 0
    best: bool = False
    run: int = 0
    run_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpointed(Model):
    """The state of training is durable up to `step`."""

    step: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Model):
    """The job goes on from `step` after an interruption; `attempt` counts from 2."""

    attempt: int = 0
    step: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warning(Model):
    """Something the reader should know; the job goes on. `reason` is a stable upper-case word."""

    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published(Model):
    """The version is on disk and in the registry."""

    version: AdapterVersion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded(Model):
    """The job ended well.

    Attributes:
        version: Full name of the version.
        activated: Whether it is in force.
        duration: From acceptance to the end.
    """

    version: str = ""
    activated: bool = False
    duration: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Model):
    """The job ended without a version. `reason` is a stable upper-case word, for example WORKER_DIED."""

    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled(Model):
    """The job was cancelled; nothing was published."""

    actor: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(Model):
    """The stream is alive. Only seen where heartbeats are asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown(Model):
    """An event of a kind that this client is too old to know. Counted like any other, so that nothing is lost."""


Event: TypeAlias = (
    Queued
    | Started
    | Progress
    | Evaluation
    | Checkpointed
    | Resumed
    | Warning
    | Published
    | Verdict
    | Succeeded
    | Failed
    | Cancelled
    | Heartbeat
    | Unknown
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainEvent(Model):
    """One event of a job.

    Attributes:
        job_id: The job.
        sequence: 1, 2, 3, … without gaps; 0 for heartbeats.
        time: When it happened.
        event: What happened.
    """

    job_id: str
    sequence: int
    time: datetime | None
    event: Event

    @property
    def kind(self) -> str:
        """The event's kind in the contract's words, `progress` or `succeeded`."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(self.event).__name__).lower()

    @property
    def closes(self) -> bool:
        """Whether this is the job's last event."""
        return isinstance(self.event, (Succeeded, Failed, Cancelled))

    def to_dict(self) -> dict[str, Any]:
        """`job_id`, `sequence`, `time`, `kind`, and the event's fields under its kind."""
        return {
            "job_id": self.job_id,
            "sequence": self.sequence,
            "time": plain(self.time),
            "kind": self.kind,
            self.kind: self.event.to_dict(),
        }
