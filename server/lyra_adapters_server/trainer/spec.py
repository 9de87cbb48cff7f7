"""What the worker is asked to do. Imports no torch: the server builds these, the worker reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lyra_adapters_server.types import (
    LABELS,
    AdapterRef,
    Label,
    LoraConfig,
    Pair,
    Prompt,
    Sample,
    TrainingConfig,
    Value,
)


class BaseModelConfig(Value):
    """One base model of the allow-list."""

    alias: str
    # Hugging Face id, local directory, or `demo`.
    source: str
    # None: the default prompt. Of causal models only.
    prompt: Prompt | None = None
    # What the head of an encoder calls each label; None: its own names tell.
    labels: dict[Label, str] | None = None


class WorkerConfig(Value):
    """What a worker needs to know at its start."""

    bases: tuple[BaseModelConfig, ...]
    # `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
    device: str = "auto"
    # `auto`, `bfloat16`, `float32`, `float16`.
    dtype: str = "auto"
    # `float32`, or `base`: that of the base.
    classify_dtype: str = "float32"
    # `auto`, or `off`: torch's own functions in their place.
    compiled_kernels: str = "auto"
    # CPU threads of torch; 0: as many as there are cores.
    threads: int = 0
    # Added to the process's niceness, so that the server answers while training takes every core.
    nice: int = 5
    # Base models in memory at a time; 0: as many as fit.
    max_loaded_bases: int = 0
    # Converted models and digests are kept here.
    cache_dir: str
    # As the server's settings of these names.
    log_format: str = "auto"
    log_level: str = "info"


class Plan(Value):
    """How a job is computed: what, beside its spec, decides the bytes of its adapter.

    Made when the job first starts, stored with it, and given back to the worker that goes on with it.
    """

    device: str
    dtype: str
    # CPU threads of torch.
    threads: int
    # What stands in the place of transformers' own layers, and whether rows are padded.
    kernels: str
    attention: str
    # Tokens of a micro-batch with gradients, and padded ones of one without. Smaller after memory ran out.
    train_token_budget: int
    score_token_budget: int
    # The machine's kind and the instructions that torch uses on it.
    machine: str
    instructions: str
    python: str
    torch: str
    transformers: str
    peft: str


class CheckpointRules(Value):
    """Where and how often a training writes down what it needs to go on."""

    # A directory of this job alone; what is in it is gone on from.
    directory: str
    # Optimizer steps between two checkpoints; 0: by time alone.
    steps: int = 0
    # Seconds between two checkpoints; 0: by steps alone.
    seconds: float = 30.0


class TrainSpec(Value):
    """One training job, complete: the same spec on the same plan gives the same adapter."""

    job_id: str
    base_alias: str
    training_samples: tuple[Sample, ...]
    validation_samples: tuple[Sample, ...]
    lora: LoraConfig
    training: TrainingConfig
    # Positions among the training samples of the rows that choose the best step, the best candidate and the
    # temperature, fold by fold. Empty: nothing is chosen, and the last step is kept. None: the validation samples
    # choose the best step, which only suits callers that compare nothing on them.
    inner: tuple[tuple[int, ...], ...] | None = None
    # Positions among the training samples of reviews that came because a model had erred: of probabilities in use they
    # say little, so the temperature is fitted without them where there are enough others.
    picked_out: tuple[int, ...] = ()
    # Rows that are trained on beside them, against forgetting.
    replay_samples: tuple[Sample, ...] = ()
    # Scored on the validation samples before training starts.
    champion: AdapterRef
    # Weights to start from.
    continue_from: AdapterRef | None = None
    # An empty directory that takes adapter_model.safetensors, adapter_config.json and prompt.json.
    output_dir: str
    # Least seconds between two progress events.
    progress_interval_s: float = 0.5
    # None: an interrupted training starts again from its first step.
    checkpoints: CheckpointRules | None = None
    # The job's, once it has started; None: the worker makes one.
    plan: Plan | None = None


class ScoreSpec(Value):
    """Score an adapter, or the bare base, on rows."""

    subject: AdapterRef
    samples: tuple[Sample, ...]
    max_length: int = 512
    # The share of each label, in the order of LABELS: what a bare base that has no NLI head is scored with.
    prior: tuple[float, float, float] | None = None


class ClassifySpec(Value):
    """Label pairs with an adapter, or with the bare base."""

    subject: AdapterRef
    pairs: tuple[Pair, ...]
    max_length: int = 512


class FormatSpec(Value):
    """Make a published adapter's files in a form for another engine."""

    subject: AdapterRef
    form: Literal["GGUF", "OLLAMA", "MERGED"]
    # Of the base's weights that it was trained on: it must not be mixed with others.
    base_digest: str
    # An empty directory that takes the files.
    output_dir: str
    # What FROM names in a Modelfile; empty: a GGUF file of the base, beside it.
    ollama_model: str = ""


class LoadSpec(Value):
    """Load a base model and describe it."""

    base_alias: str


class CancelSpec(Value):
    """Stop another request."""

    target: int


class SuspendSpec(Value):
    """Stop another request after it has written down what it needs to go on; it ends with SUSPENDED."""

    target: int


Method = Literal["load", "train", "score", "classify", "make_format", "cancel", "suspend"]

# How a request ends that was told to suspend.
SUSPENDED = "SUSPENDED"


def class_prior(samples: Sequence[Sample]) -> tuple[float, float, float]:
    """The share of each label among samples, in the order of LABELS; equal shares where there are none."""
    if not samples:
        return (1 / 3, 1 / 3, 1 / 3)
    supports, refutes, neutral = (sum(sample.correct_label == label for sample in samples) for label in LABELS)
    return (supports / len(samples), refutes / len(samples), neutral / len(samples))


class Request(Value):
    """A line to the worker. `params` is the method's spec."""

    id: int
    method: Method
    params: dict[str, object]
