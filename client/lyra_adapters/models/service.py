"""Jobs, the state of the service, and answers of the smaller calls."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lyra_adapters.models.base import Model, Word
from lyra_adapters.models.events import Failed, Progress
from lyra_adapters.models.samples import Label
from lyra_adapters.models.scores import Verdict
from lyra_adapters.models.training import LoraConfig, TrainingConfig
from lyra_adapters.models.versions import BaseModelIdentity


class JobState(Word):
    """Where a job stands."""

    UNSPECIFIED = "UNSPECIFIED"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class BaseModelState(Word):
    """Readiness of a base model."""

    UNSPECIFIED = "UNSPECIFIED"
    UNLOADED = "UNLOADED"
    LOADING = "LOADING"
    READY = "READY"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(Model):
    """One training job.

    Attributes:
        job_id: The job.
        state: Where it stands.
        adapter: The adapter it trains.
        task_id: The caller's task.
        actor: Who asked, as the caller said.
        domain: The domain of the rows.
        base_model: Alias of the base model.
        samples: Rows, after merging duplicates.
        create_time: When it was accepted.
        start_time: When the trainer first began with it.
        end_time: When it ended.
        queue_position: While queued: its place, 1 is next.
        attempt: How many times it was started.
        last_sequence: Sequence of its last event.
        progress: Its last progress.
        version: Full name of the version it published; empty until then.
        verdict: The gate's verdict, once given.
        failure: Why it failed.
        cancel_requested: Cancel was asked for and is being carried out.
        continue_from: Full name of the version it starts from.
        lora: The adapter's shape, defaults filled in.
        training: How it trains, defaults filled in.
        principal: Who, as proven to the server; `anonymous` where it asks nobody.
    """

    job_id: str = ""
    state: JobState = JobState.UNSPECIFIED
    adapter: str = ""
    task_id: str = ""
    actor: str = ""
    domain: str = ""
    base_model: str = ""
    samples: int = 0
    create_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    queue_position: int = 0
    attempt: int = 0
    last_sequence: int = 0
    progress: Progress | None = None
    version: str = ""
    verdict: Verdict | None = None
    failure: Failed | None = None
    cancel_requested: bool = False
    continue_from: str = ""
    lora: LoraConfig | None = None
    training: TrainingConfig | None = None
    principal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModelStatus(Model):
    """One base model of the server's allow-list.

    Attributes:
        alias: The name to ask for it by.
        identity: Which weights, once loaded.
        state: Readiness.
        error: Why it could not be loaded.
        architecture: For example `LlamaForCausalLM`.
        parameters: Parameters of the base.
        linear_modules: Names of the linear modules that can be targets.
        default_target_modules: The default targets of this base.
        prompt: Name of the prompt that the server uses for it.
    """

    alias: str = ""
    identity: BaseModelIdentity | None = None
    state: BaseModelState = BaseModelState.UNSPECIFIED
    error: str = ""
    architecture: str = ""
    parameters: int = 0
    linear_modules: tuple[str, ...] = ()
    default_target_modules: tuple[str, ...] = ()
    prompt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingDue(Model):
    """Whether recorded feedback makes training due, condition by condition.

    Attributes:
        due: Whether training from feedback would be accepted without `force`.
        have_samples: Samples there are, after merging duplicates.
        need_samples: Samples needed.
        have_error_rate: Share of reviewed predictions that were wrong; None where no row has an original label.
        need_error_rate: Share needed.
        explanation: The answer in words, condition by condition.
        new_samples: Of `have_samples`, those that no version under this name has used.
    """

    due: bool = False
    have_samples: int = 0
    need_samples: int = 0
    have_error_rate: float | None = None
    need_error_rate: float = 0.0
    explanation: str = ""
    new_samples: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterStatus(Model):
    """What is in force under an adapter's name.

    Attributes:
        adapter: The adapter.
        active: Full name of the version in force, or `base`.
        pointer_revision: The pointer's revision; 0 if it has never moved.
        change_time: When it last moved.
        versions: Versions published.
        training_due: Whether recorded feedback makes training due, and why.
    """

    adapter: str = ""
    active: str = ""
    pointer_revision: int = 0
    change_time: datetime | None = None
    versions: int = 0
    training_due: TrainingDue | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus(Model):
    """The state of the service.

    Attributes:
        version: Version of the server.
        start_time: When the server started.
        device: The trainer's device; empty until the trainer has said.
        base_models: The allow-list; the first is the default.
        queued_jobs: Jobs waiting, next first, at most 100.
        running_jobs: Jobs in the trainer.
        queue_length: Jobs waiting in all.
        adapters: Every adapter name and what is in force under it.
    """

    version: str = ""
    start_time: datetime | None = None
    device: str = ""
    base_models: tuple[BaseModelStatus, ...] = ()
    queued_jobs: tuple[Job, ...] = ()
    running_jobs: tuple[Job, ...] = ()
    queue_length: int = 0
    adapters: tuple[AdapterStatus, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Probabilities(Model):
    """Probabilities of the three labels, summing to 1."""

    supports: float = 0.0
    refutes: float = 0.0
    neutral: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification(Model):
    """The label of a pair.

    Attributes:
        label: The most probable label.
        probabilities: Of all three.
        truncated: Whether the premise was cut to the longest token sequence.
    """

    label: Label
    probabilities: Probabilities
    truncated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifications(Model):
    """Labels of pairs: `results` in the request's order, the `version` and `base_model` that gave them."""

    results: tuple[Classification, ...] = ()
    version: str = ""
    base_model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackReceipt(Model):
    """What RecordFeedback stored.

    Attributes:
        stored: Reviews that were new.
        unchanged: Reviews that were already there with the same content.
        revised: Reviews that became a new revision of one that was there.
        ids: Their ids, in the request's order.
    """

    stored: int = 0
    unchanged: int = 0
    revised: int = 0
    ids: tuple[str, ...] = ()
