"""Values that every layer shares: labels, samples, scores and the settings of a training. Imports no other layer."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class Label(StrEnum):
    """The relation of a premise to a hypothesis. The order of the members is the order of logits and of confusions."""

    SUPPORTS = "SUPPORTS"
    REFUTES = "REFUTES"
    NEUTRAL = "NEUTRAL"


LABELS: tuple[Label, ...] = tuple(Label)


class Value(BaseModel):
    """An immutable value that travels as JSON; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Sample(Value):
    """One reviewed prediction (protos: Sample)."""

    id: str
    premise: str
    hypothesis: str
    correct_label: Label
    original_label: Label | None = None
    original_confidence: float | None = None
    group: str = ""


class Pair(Value):
    """A premise and a hypothesis, to be labelled."""

    premise: str
    hypothesis: str


class Metrics(Value):
    """Scores on a set of rows (protos: Metrics). `confusion[i][j]` counts rows of label i predicted as label j."""

    samples: int
    accuracy: float
    macro_f1: float
    brier: float
    loss: float
    confusion: list[list[int]]
    calibration_error: float = 0.0
    # What the logits were divided by.
    temperature: float = 1.0


class LoraConfig(Value):
    """The adapter's shape. Empty `target_modules`: the base's query and value projections."""

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.05
    target_modules: tuple[str, ...] = ()
    # Whether the lower half of the layers is left alone.
    upper_half: bool = False


class Candidate(Value):
    """One setting to try; what is None is as in TrainingConfig (protos: Candidate)."""

    epochs: int | None = None
    learning_rate: float | None = None


class TrainingConfig(Value):
    """How to train; the defaults are the API's (protos: TrainingConfig)."""

    epochs: int = 6
    # As for a base as wide as the demo base (trainer/learning_rate.py).
    learning_rate: float = 2e-3
    batch_size: int = 8
    max_length: int = 512
    seed: int = 0
    validation_fraction: float = 0.2
    patience: int = 3
    weight_decay: float = 0.01
    warmup_ratio: float = 0.1
    max_grad_norm: float = 1.0
    label_smoothing: float = 0.0
    evaluations_per_epoch: int = 1
    inner_fraction: float = 0.15
    # None: by the number of rows (feedback/inner.py).
    folds: int | None = None
    candidates: tuple[Candidate, ...] = ()
    # None: where labels are far from balanced (trainer/balance.py).
    balance_labels: bool | None = None
    # None: where recorded feedback has too few confirmations.
    replay_general_rows: bool | None = None
    # None: where errors were picked out (trainer/balance.py).
    balance_reviews: bool | None = None
    # None: 1 where a version is gone on from, else 0.
    distillation: float | None = None


class Prompt(Value):
    """How a pair becomes text for a causal model, and which word stands for which label.

    `template` holds `{premise}` and `{hypothesis}`; the model answers right after it. Each label word must be a single
    token in that place. An adapter is only good under the prompt it was trained with, so versions keep theirs.
    """

    name: str
    template: str
    label_words: dict[Label, str]
    add_special_tokens: bool = True


# What prompt.json of an encoder's adapter says in the place of a prompt: the tokenizer joins premise and hypothesis.
PAIR = "pair"


class BaseIdentity(Value):
    """Which weights a base model has. `digest`: SHA-256 over the digests of its weight files."""

    id: str
    revision: str = ""
    digest: str


class BaseCard(Value):
    """What the server knows of a base model, loaded or not; written by the worker from its files."""

    alias: str
    identity: BaseIdentity
    architecture: str
    parameters: int
    max_length: int
    # Name without layer prefix -> (out_features, in_features) of its smallest occurrence.
    linear_modules: dict[str, tuple[int, int]]
    default_target_modules: tuple[str, ...]
    # Of a causal model: how a pair becomes text, and the token of each label's word.
    prompt: Prompt | None = None
    label_token_ids: dict[Label, int] = {}
    # Of an encoder: each label's place among the outputs of its head.
    label_indices: dict[Label, int] = {}
    # False: an encoder without an NLI head. Each adapter brings one of its own; without an adapter it labels nothing.
    has_head: bool = True
    device: str
    dtype: str

    @property
    def width(self) -> int:
        """Of the hidden states: what the first adapted projection takes in."""
        return self.linear_modules[self.default_target_modules[0]][1]

    @property
    def prompt_name(self) -> str:
        """How pairs are read: the prompt's name, or `pair` where the tokenizer joins premise and hypothesis itself."""
        return self.prompt.name if self.prompt else PAIR


class BaseState(StrEnum):
    """Whether a base model's weights are in memory (protos: BaseModelState)."""

    UNLOADED = "UNLOADED"
    LOADING = "LOADING"
    READY = "READY"
    FAILED = "FAILED"


class AdapterRef(Value):
    """A published adapter, or the bare base where `directory` is empty."""

    name: str = Field(description="full name, or `base`")
    base_alias: str
    directory: str = ""
