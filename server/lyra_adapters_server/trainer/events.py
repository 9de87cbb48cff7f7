"""What the worker answers: events of a request, then its end. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from lyra_adapters_server.trainer.spec import Plan
from lyra_adapters_server.types import BaseCard, BaseState, Metrics, Value

# Replies under this id answer no request: the worker tells of itself.
OF_ITSELF = 0


class BaseLoaded(Value):
    """A base model is in memory."""

    kind: Literal["base_loaded"] = "base_loaded"
    card: BaseCard


class BaseChanged(Value):
    """A base model was described, is being loaded, is in memory, was let go, or failed."""

    kind: Literal["base_changed"] = "base_changed"
    alias: str
    state: BaseState
    # Once it has been described.
    card: BaseCard | None = None
    error: str = ""


class Alive(Value):
    """The worker has done turns of work since it last said so. Not sent by a clock: it proves that work moves on."""

    kind: Literal["alive"] = "alive"


class TrainingStarted(Value):
    """The rows are tokenised and the adapter is in place."""

    kind: Literal["started"] = "started"
    training_samples: int
    validation_samples: int
    total_steps: int
    device: str
    dtype: str
    trainable_parameters: int
    inner_samples: int = 0
    replayed_general_rows: int = 0
    distilled_pairs: int = 0
    plan: Plan
    # The step of the checkpoint that it goes on from; 0: the beginning.
    step: int = 0


class TrainingProgress(Value):
    """Training moved on (protos: Progress)."""

    kind: Literal["progress"] = "progress"
    step: int
    total_steps: int
    epoch: float
    loss: float
    learning_rate: float
    tokens_per_second: float
    fraction_done: float
    eta_s: float
    run: int = 1
    runs: int = 1
    run_name: str = ""


class Evaluated(Value):
    """Rows were scored (protos: Evaluation)."""

    kind: Literal["evaluation"] = "evaluation"
    stage: Literal["BEFORE", "VALIDATION", "AFTER", "CHAMPION"]
    subject: str
    metrics: Metrics
    step: int
    best: bool = False
    run: int = 0
    run_name: str = ""


class Checkpointed(Value):
    """The state of a training is durable up to a step (protos: Checkpointed)."""

    kind: Literal["checkpointed"] = "checkpointed"
    step: int
    # What it took to write.
    seconds: float
    size_bytes: int


class TrainerWarning(Value):
    """Something to tell the caller; the work goes on."""

    kind: Literal["warning"] = "warning"
    reason: str
    message: str
    # The job's plan from here on, where it had to change.
    plan: Plan | None = None


class Calibration(Value):
    """A version's temperature, and its scores on the held-out rows without and with it (protos: Calibration)."""

    temperature: float = 1.0
    rows: int = 0
    cross_fitted: bool = False
    uncalibrated: Metrics | None = None
    calibrated: Metrics | None = None


class RunSummary(Value):
    """What became of one of a job's runs."""

    name: str
    epochs: int
    learning_rate: float
    rows: int
    inner_rows: int
    # On the inner rows at the best step; None where there are none, and where the run was broken off.
    inner_loss: float | None
    # The best step's share of the planned ones.
    best_share: float
    chosen: bool


class Trained(Value):
    """The adapter's files are in the output directory, with the best step's weights."""

    kind: Literal["trained"] = "trained"
    # None where no row was held out.
    metrics_before: Metrics | None
    metrics_after: Metrics | None
    best_step: int
    steps: int
    stopped_early: bool
    truncated_samples: int
    distilled_pairs: int = 0
    training_seconds: float
    plan: Plan
    calibration: Calibration = Calibration()
    runs: tuple[RunSummary, ...] = ()


class Scored(Value):
    """Rows were scored; probabilities in the order of the rows and of LABELS."""

    kind: Literal["scored"] = "scored"
    metrics: Metrics | None
    probabilities: list[tuple[float, float, float]]
    truncated: list[bool]


class FormatMade(Value):
    """The files of a form are in the output directory."""

    kind: Literal["format_made"] = "format_made"


TrainerEvent = Annotated[
    BaseLoaded
    | BaseChanged
    | Alive
    | TrainingStarted
    | TrainingProgress
    | Evaluated
    | Checkpointed
    | TrainerWarning
    | Trained
    | Scored
    | FormatMade,
    Field(discriminator="kind"),
]


class RequestError(Value):
    """Why a request ended without its result. `reason` is a stable upper-case word."""

    reason: str
    message: str


class Reply(Value):
    """A line from the worker: an event of a request, or its end (with an error, or well)."""

    id: int
    event: TrainerEvent | None = None
    error: RequestError | None = None
    done: bool = False


REPLY: TypeAdapter[Reply] = TypeAdapter(Reply)
