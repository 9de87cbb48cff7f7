from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Label(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LABEL_UNSPECIFIED: _ClassVar[Label]
    LABEL_SUPPORTS: _ClassVar[Label]
    LABEL_REFUTES: _ClassVar[Label]
    LABEL_NEUTRAL: _ClassVar[Label]

class Activation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTIVATION_UNSPECIFIED: _ClassVar[Activation]
    ACTIVATION_GATED: _ClassVar[Activation]
    ACTIVATION_MANUAL: _ClassVar[Activation]
    ACTIVATION_ALWAYS: _ClassVar[Activation]

class ConflictPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONFLICT_POLICY_UNSPECIFIED: _ClassVar[ConflictPolicy]
    CONFLICT_POLICY_REFUSE: _ClassVar[ConflictPolicy]
    CONFLICT_POLICY_KEEP_NEWEST: _ClassVar[ConflictPolicy]

class EvaluationStage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVALUATION_STAGE_UNSPECIFIED: _ClassVar[EvaluationStage]
    EVALUATION_STAGE_BEFORE: _ClassVar[EvaluationStage]
    EVALUATION_STAGE_VALIDATION: _ClassVar[EvaluationStage]
    EVALUATION_STAGE_AFTER: _ClassVar[EvaluationStage]
    EVALUATION_STAGE_CHAMPION: _ClassVar[EvaluationStage]

class VerdictOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_OUTCOME_UNSPECIFIED: _ClassVar[VerdictOutcome]
    VERDICT_OUTCOME_BETTER: _ClassVar[VerdictOutcome]
    VERDICT_OUTCOME_NOT_WORSE: _ClassVar[VerdictOutcome]
    VERDICT_OUTCOME_UNDECIDED: _ClassVar[VerdictOutcome]
    VERDICT_OUTCOME_WORSE: _ClassVar[VerdictOutcome]

class VersionState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERSION_STATE_UNSPECIFIED: _ClassVar[VersionState]
    VERSION_STATE_CANDIDATE: _ClassVar[VersionState]
    VERSION_STATE_ACTIVE: _ClassVar[VersionState]
    VERSION_STATE_RETIRED: _ClassVar[VersionState]
    VERSION_STATE_REJECTED: _ClassVar[VersionState]
    VERSION_STATE_DELETED: _ClassVar[VersionState]

class PointerChangeKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POINTER_CHANGE_KIND_UNSPECIFIED: _ClassVar[PointerChangeKind]
    POINTER_CHANGE_KIND_PUBLISHED: _ClassVar[PointerChangeKind]
    POINTER_CHANGE_KIND_ACTIVATED: _ClassVar[PointerChangeKind]
    POINTER_CHANGE_KIND_ROLLED_BACK: _ClassVar[PointerChangeKind]

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_QUEUED: _ClassVar[JobState]
    JOB_STATE_RUNNING: _ClassVar[JobState]
    JOB_STATE_SUCCEEDED: _ClassVar[JobState]
    JOB_STATE_FAILED: _ClassVar[JobState]
    JOB_STATE_CANCELLED: _ClassVar[JobState]

class BaseModelState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BASE_MODEL_STATE_UNSPECIFIED: _ClassVar[BaseModelState]
    BASE_MODEL_STATE_UNLOADED: _ClassVar[BaseModelState]
    BASE_MODEL_STATE_LOADING: _ClassVar[BaseModelState]
    BASE_MODEL_STATE_READY: _ClassVar[BaseModelState]
    BASE_MODEL_STATE_FAILED: _ClassVar[BaseModelState]

class AdapterFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ADAPTER_FORMAT_UNSPECIFIED: _ClassVar[AdapterFormat]
    ADAPTER_FORMAT_PEFT: _ClassVar[AdapterFormat]
    ADAPTER_FORMAT_GGUF: _ClassVar[AdapterFormat]
    ADAPTER_FORMAT_OLLAMA: _ClassVar[AdapterFormat]
    ADAPTER_FORMAT_MERGED: _ClassVar[AdapterFormat]
LABEL_UNSPECIFIED: Label
LABEL_SUPPORTS: Label
LABEL_REFUTES: Label
LABEL_NEUTRAL: Label
ACTIVATION_UNSPECIFIED: Activation
ACTIVATION_GATED: Activation
ACTIVATION_MANUAL: Activation
ACTIVATION_ALWAYS: Activation
CONFLICT_POLICY_UNSPECIFIED: ConflictPolicy
CONFLICT_POLICY_REFUSE: ConflictPolicy
CONFLICT_POLICY_KEEP_NEWEST: ConflictPolicy
EVALUATION_STAGE_UNSPECIFIED: EvaluationStage
EVALUATION_STAGE_BEFORE: EvaluationStage
EVALUATION_STAGE_VALIDATION: EvaluationStage
EVALUATION_STAGE_AFTER: EvaluationStage
EVALUATION_STAGE_CHAMPION: EvaluationStage
VERDICT_OUTCOME_UNSPECIFIED: VerdictOutcome
VERDICT_OUTCOME_BETTER: VerdictOutcome
VERDICT_OUTCOME_NOT_WORSE: VerdictOutcome
VERDICT_OUTCOME_UNDECIDED: VerdictOutcome
VERDICT_OUTCOME_WORSE: VerdictOutcome
VERSION_STATE_UNSPECIFIED: VersionState
VERSION_STATE_CANDIDATE: VersionState
VERSION_STATE_ACTIVE: VersionState
VERSION_STATE_RETIRED: VersionState
VERSION_STATE_REJECTED: VersionState
VERSION_STATE_DELETED: VersionState
POINTER_CHANGE_KIND_UNSPECIFIED: PointerChangeKind
POINTER_CHANGE_KIND_PUBLISHED: PointerChangeKind
POINTER_CHANGE_KIND_ACTIVATED: PointerChangeKind
POINTER_CHANGE_KIND_ROLLED_BACK: PointerChangeKind
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_QUEUED: JobState
JOB_STATE_RUNNING: JobState
JOB_STATE_SUCCEEDED: JobState
JOB_STATE_FAILED: JobState
JOB_STATE_CANCELLED: JobState
BASE_MODEL_STATE_UNSPECIFIED: BaseModelState
BASE_MODEL_STATE_UNLOADED: BaseModelState
BASE_MODEL_STATE_LOADING: BaseModelState
BASE_MODEL_STATE_READY: BaseModelState
BASE_MODEL_STATE_FAILED: BaseModelState
ADAPTER_FORMAT_UNSPECIFIED: AdapterFormat
ADAPTER_FORMAT_PEFT: AdapterFormat
ADAPTER_FORMAT_GGUF: AdapterFormat
ADAPTER_FORMAT_OLLAMA: AdapterFormat
ADAPTER_FORMAT_MERGED: AdapterFormat

class Sample(_message.Message):
    __slots__ = ("id", "premise", "hypothesis", "correct_label", "original_label", "original_confidence", "group")
    ID_FIELD_NUMBER: _ClassVar[int]
    PREMISE_FIELD_NUMBER: _ClassVar[int]
    HYPOTHESIS_FIELD_NUMBER: _ClassVar[int]
    CORRECT_LABEL_FIELD_NUMBER: _ClassVar[int]
    ORIGINAL_LABEL_FIELD_NUMBER: _ClassVar[int]
    ORIGINAL_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    id: str
    premise: str
    hypothesis: str
    correct_label: Label
    original_label: Label
    original_confidence: float
    group: str
    def __init__(self, id: _Optional[str] = ..., premise: _Optional[str] = ..., hypothesis: _Optional[str] = ..., correct_label: _Optional[_Union[Label, str]] = ..., original_label: _Optional[_Union[Label, str]] = ..., original_confidence: _Optional[float] = ..., group: _Optional[str] = ...) -> None: ...

class FeedbackSource(_message.Message):
    __slots__ = ("task_ids", "domains", "reviewed_after", "reviewed_before", "only_new")
    TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    DOMAINS_FIELD_NUMBER: _ClassVar[int]
    REVIEWED_AFTER_FIELD_NUMBER: _ClassVar[int]
    REVIEWED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    ONLY_NEW_FIELD_NUMBER: _ClassVar[int]
    task_ids: _containers.RepeatedScalarFieldContainer[str]
    domains: _containers.RepeatedScalarFieldContainer[str]
    reviewed_after: _timestamp_pb2.Timestamp
    reviewed_before: _timestamp_pb2.Timestamp
    only_new: bool
    def __init__(self, task_ids: _Optional[_Iterable[str]] = ..., domains: _Optional[_Iterable[str]] = ..., reviewed_after: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., reviewed_before: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., only_new: bool = ...) -> None: ...

class TrainRequest(_message.Message):
    __slots__ = ("request_id", "adapter", "task_id", "actor", "domain", "samples", "feedback", "base_model", "lora", "training", "trigger", "activation", "continue_from", "conflicts")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_FIELD_NUMBER: _ClassVar[int]
    LORA_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    CONTINUE_FROM_FIELD_NUMBER: _ClassVar[int]
    CONFLICTS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    adapter: str
    task_id: str
    actor: str
    domain: str
    samples: _containers.RepeatedCompositeFieldContainer[Sample]
    feedback: FeedbackSource
    base_model: str
    lora: LoraConfig
    training: TrainingConfig
    trigger: TriggerPolicy
    activation: Activation
    continue_from: str
    conflicts: ConflictPolicy
    def __init__(self, request_id: _Optional[str] = ..., adapter: _Optional[str] = ..., task_id: _Optional[str] = ..., actor: _Optional[str] = ..., domain: _Optional[str] = ..., samples: _Optional[_Iterable[_Union[Sample, _Mapping]]] = ..., feedback: _Optional[_Union[FeedbackSource, _Mapping]] = ..., base_model: _Optional[str] = ..., lora: _Optional[_Union[LoraConfig, _Mapping]] = ..., training: _Optional[_Union[TrainingConfig, _Mapping]] = ..., trigger: _Optional[_Union[TriggerPolicy, _Mapping]] = ..., activation: _Optional[_Union[Activation, str]] = ..., continue_from: _Optional[str] = ..., conflicts: _Optional[_Union[ConflictPolicy, str]] = ...) -> None: ...

class LoraConfig(_message.Message):
    __slots__ = ("rank", "alpha", "dropout", "target_modules", "upper_half")
    RANK_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    DROPOUT_FIELD_NUMBER: _ClassVar[int]
    TARGET_MODULES_FIELD_NUMBER: _ClassVar[int]
    UPPER_HALF_FIELD_NUMBER: _ClassVar[int]
    rank: int
    alpha: float
    dropout: float
    target_modules: _containers.RepeatedScalarFieldContainer[str]
    upper_half: bool
    def __init__(self, rank: _Optional[int] = ..., alpha: _Optional[float] = ..., dropout: _Optional[float] = ..., target_modules: _Optional[_Iterable[str]] = ..., upper_half: bool = ...) -> None: ...

class TrainingConfig(_message.Message):
    __slots__ = ("epochs", "learning_rate", "batch_size", "max_length", "seed", "validation_fraction", "patience", "weight_decay", "warmup_ratio", "max_grad_norm", "label_smoothing", "evaluations_per_epoch", "inner_fraction", "folds", "candidates", "balance_labels", "replay_general_rows", "balance_reviews", "distillation")
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FRACTION_FIELD_NUMBER: _ClassVar[int]
    PATIENCE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_DECAY_FIELD_NUMBER: _ClassVar[int]
    WARMUP_RATIO_FIELD_NUMBER: _ClassVar[int]
    MAX_GRAD_NORM_FIELD_NUMBER: _ClassVar[int]
    LABEL_SMOOTHING_FIELD_NUMBER: _ClassVar[int]
    EVALUATIONS_PER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    INNER_FRACTION_FIELD_NUMBER: _ClassVar[int]
    FOLDS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    BALANCE_LABELS_FIELD_NUMBER: _ClassVar[int]
    REPLAY_GENERAL_ROWS_FIELD_NUMBER: _ClassVar[int]
    BALANCE_REVIEWS_FIELD_NUMBER: _ClassVar[int]
    DISTILLATION_FIELD_NUMBER: _ClassVar[int]
    epochs: int
    learning_rate: float
    batch_size: int
    max_length: int
    seed: int
    validation_fraction: float
    patience: int
    weight_decay: float
    warmup_ratio: float
    max_grad_norm: float
    label_smoothing: float
    evaluations_per_epoch: int
    inner_fraction: float
    folds: int
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    balance_labels: bool
    replay_general_rows: bool
    balance_reviews: bool
    distillation: float
    def __init__(self, epochs: _Optional[int] = ..., learning_rate: _Optional[float] = ..., batch_size: _Optional[int] = ..., max_length: _Optional[int] = ..., seed: _Optional[int] = ..., validation_fraction: _Optional[float] = ..., patience: _Optional[int] = ..., weight_decay: _Optional[float] = ..., warmup_ratio: _Optional[float] = ..., max_grad_norm: _Optional[float] = ..., label_smoothing: _Optional[float] = ..., evaluations_per_epoch: _Optional[int] = ..., inner_fraction: _Optional[float] = ..., folds: _Optional[int] = ..., candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ..., balance_labels: bool = ..., replay_general_rows: bool = ..., balance_reviews: bool = ..., distillation: _Optional[float] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("epochs", "learning_rate")
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    epochs: int
    learning_rate: float
    def __init__(self, epochs: _Optional[int] = ..., learning_rate: _Optional[float] = ...) -> None: ...

class TriggerPolicy(_message.Message):
    __slots__ = ("min_samples", "min_error_rate", "force")
    MIN_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    MIN_ERROR_RATE_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    min_samples: int
    min_error_rate: float
    force: bool
    def __init__(self, min_samples: _Optional[int] = ..., min_error_rate: _Optional[float] = ..., force: bool = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("job_id", "after_sequence")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    after_sequence: int
    def __init__(self, job_id: _Optional[str] = ..., after_sequence: _Optional[int] = ...) -> None: ...

class TrainEvent(_message.Message):
    __slots__ = ("job_id", "sequence", "time", "queued", "started", "progress", "evaluation", "checkpointed", "resumed", "warning", "published", "verdict", "succeeded", "failed", "cancelled", "heartbeat")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTED_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    WARNING_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    sequence: int
    time: _timestamp_pb2.Timestamp
    queued: Queued
    started: Started
    progress: Progress
    evaluation: Evaluation
    checkpointed: Checkpointed
    resumed: Resumed
    warning: Warning
    published: Published
    verdict: Verdict
    succeeded: Succeeded
    failed: Failed
    cancelled: Cancelled
    heartbeat: Heartbeat
    def __init__(self, job_id: _Optional[str] = ..., sequence: _Optional[int] = ..., time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., queued: _Optional[_Union[Queued, _Mapping]] = ..., started: _Optional[_Union[Started, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., evaluation: _Optional[_Union[Evaluation, _Mapping]] = ..., checkpointed: _Optional[_Union[Checkpointed, _Mapping]] = ..., resumed: _Optional[_Union[Resumed, _Mapping]] = ..., warning: _Optional[_Union[Warning, _Mapping]] = ..., published: _Optional[_Union[Published, _Mapping]] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ..., succeeded: _Optional[_Union[Succeeded, _Mapping]] = ..., failed: _Optional[_Union[Failed, _Mapping]] = ..., cancelled: _Optional[_Union[Cancelled, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ...) -> None: ...

class Queued(_message.Message):
    __slots__ = ("position", "merged_duplicates", "dropped_conflicts", "merged_near_duplicates")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    MERGED_DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    DROPPED_CONFLICTS_FIELD_NUMBER: _ClassVar[int]
    MERGED_NEAR_DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    position: int
    merged_duplicates: int
    dropped_conflicts: int
    merged_near_duplicates: int
    def __init__(self, position: _Optional[int] = ..., merged_duplicates: _Optional[int] = ..., dropped_conflicts: _Optional[int] = ..., merged_near_duplicates: _Optional[int] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("attempt", "training_samples", "validation_samples", "total_steps", "device", "dtype", "trainable_parameters", "inner_samples", "replayed_general_rows", "distilled_pairs")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    TRAINING_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    TRAINABLE_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    INNER_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_GENERAL_ROWS_FIELD_NUMBER: _ClassVar[int]
    DISTILLED_PAIRS_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    training_samples: int
    validation_samples: int
    total_steps: int
    device: str
    dtype: str
    trainable_parameters: int
    inner_samples: int
    replayed_general_rows: int
    distilled_pairs: int
    def __init__(self, attempt: _Optional[int] = ..., training_samples: _Optional[int] = ..., validation_samples: _Optional[int] = ..., total_steps: _Optional[int] = ..., device: _Optional[str] = ..., dtype: _Optional[str] = ..., trainable_parameters: _Optional[int] = ..., inner_samples: _Optional[int] = ..., replayed_general_rows: _Optional[int] = ..., distilled_pairs: _Optional[int] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("step", "total_steps", "epoch", "loss", "learning_rate", "tokens_per_second", "fraction_done", "eta", "run", "runs", "run_name")
    STEP_FIELD_NUMBER: _ClassVar[int]
    TOTAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    FRACTION_DONE_FIELD_NUMBER: _ClassVar[int]
    ETA_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    RUN_NAME_FIELD_NUMBER: _ClassVar[int]
    step: int
    total_steps: int
    epoch: float
    loss: float
    learning_rate: float
    tokens_per_second: float
    fraction_done: float
    eta: _duration_pb2.Duration
    run: int
    runs: int
    run_name: str
    def __init__(self, step: _Optional[int] = ..., total_steps: _Optional[int] = ..., epoch: _Optional[float] = ..., loss: _Optional[float] = ..., learning_rate: _Optional[float] = ..., tokens_per_second: _Optional[float] = ..., fraction_done: _Optional[float] = ..., eta: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., run: _Optional[int] = ..., runs: _Optional[int] = ..., run_name: _Optional[str] = ...) -> None: ...

class Evaluation(_message.Message):
    __slots__ = ("stage", "subject", "metrics", "step", "best", "run", "run_name")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    BEST_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    RUN_NAME_FIELD_NUMBER: _ClassVar[int]
    stage: EvaluationStage
    subject: str
    metrics: Metrics
    step: int
    best: bool
    run: int
    run_name: str
    def __init__(self, stage: _Optional[_Union[EvaluationStage, str]] = ..., subject: _Optional[str] = ..., metrics: _Optional[_Union[Metrics, _Mapping]] = ..., step: _Optional[int] = ..., best: bool = ..., run: _Optional[int] = ..., run_name: _Optional[str] = ...) -> None: ...

class Checkpointed(_message.Message):
    __slots__ = ("step",)
    STEP_FIELD_NUMBER: _ClassVar[int]
    step: int
    def __init__(self, step: _Optional[int] = ...) -> None: ...

class Resumed(_message.Message):
    __slots__ = ("attempt", "step", "reason")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    step: int
    reason: str
    def __init__(self, attempt: _Optional[int] = ..., step: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Warning(_message.Message):
    __slots__ = ("reason", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Published(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: AdapterVersion
    def __init__(self, version: _Optional[_Union[AdapterVersion, _Mapping]] = ...) -> None: ...

class Succeeded(_message.Message):
    __slots__ = ("version", "activated", "duration")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ACTIVATED_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    version: str
    activated: bool
    duration: _duration_pb2.Duration
    def __init__(self, version: _Optional[str] = ..., activated: bool = ..., duration: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Failed(_message.Message):
    __slots__ = ("reason", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Cancelled(_message.Message):
    __slots__ = ("actor", "reason")
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    actor: str
    reason: str
    def __init__(self, actor: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Metrics(_message.Message):
    __slots__ = ("samples", "accuracy", "macro_f1", "brier", "loss", "confusion", "calibration_error", "temperature")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    MACRO_F1_FIELD_NUMBER: _ClassVar[int]
    BRIER_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    CONFUSION_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_ERROR_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    samples: int
    accuracy: float
    macro_f1: float
    brier: float
    loss: float
    confusion: Confusion
    calibration_error: float
    temperature: float
    def __init__(self, samples: _Optional[int] = ..., accuracy: _Optional[float] = ..., macro_f1: _Optional[float] = ..., brier: _Optional[float] = ..., loss: _Optional[float] = ..., confusion: _Optional[_Union[Confusion, _Mapping]] = ..., calibration_error: _Optional[float] = ..., temperature: _Optional[float] = ...) -> None: ...

class Confusion(_message.Message):
    __slots__ = ("supports", "refutes", "neutral")
    SUPPORTS_FIELD_NUMBER: _ClassVar[int]
    REFUTES_FIELD_NUMBER: _ClassVar[int]
    NEUTRAL_FIELD_NUMBER: _ClassVar[int]
    supports: ConfusionRow
    refutes: ConfusionRow
    neutral: ConfusionRow
    def __init__(self, supports: _Optional[_Union[ConfusionRow, _Mapping]] = ..., refutes: _Optional[_Union[ConfusionRow, _Mapping]] = ..., neutral: _Optional[_Union[ConfusionRow, _Mapping]] = ...) -> None: ...

class ConfusionRow(_message.Message):
    __slots__ = ("supports", "refutes", "neutral")
    SUPPORTS_FIELD_NUMBER: _ClassVar[int]
    REFUTES_FIELD_NUMBER: _ClassVar[int]
    NEUTRAL_FIELD_NUMBER: _ClassVar[int]
    supports: int
    refutes: int
    neutral: int
    def __init__(self, supports: _Optional[int] = ..., refutes: _Optional[int] = ..., neutral: _Optional[int] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("outcome", "champion", "champion_metrics", "challenger_metrics", "explanation", "activated", "held", "held_out", "anchor", "learnt", "more_reviews", "general_rows_decided")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_METRICS_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_METRICS_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    ACTIVATED_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    HELD_OUT_FIELD_NUMBER: _ClassVar[int]
    ANCHOR_FIELD_NUMBER: _ClassVar[int]
    LEARNT_FIELD_NUMBER: _ClassVar[int]
    MORE_REVIEWS_FIELD_NUMBER: _ClassVar[int]
    GENERAL_ROWS_DECIDED_FIELD_NUMBER: _ClassVar[int]
    outcome: VerdictOutcome
    champion: str
    champion_metrics: Metrics
    challenger_metrics: Metrics
    explanation: str
    activated: bool
    held: str
    held_out: Comparison
    anchor: Comparison
    learnt: LearntCorrections
    more_reviews: int
    general_rows_decided: bool
    def __init__(self, outcome: _Optional[_Union[VerdictOutcome, str]] = ..., champion: _Optional[str] = ..., champion_metrics: _Optional[_Union[Metrics, _Mapping]] = ..., challenger_metrics: _Optional[_Union[Metrics, _Mapping]] = ..., explanation: _Optional[str] = ..., activated: bool = ..., held: _Optional[str] = ..., held_out: _Optional[_Union[Comparison, _Mapping]] = ..., anchor: _Optional[_Union[Comparison, _Mapping]] = ..., learnt: _Optional[_Union[LearntCorrections, _Mapping]] = ..., more_reviews: _Optional[int] = ..., general_rows_decided: bool = ...) -> None: ...

class Comparison(_message.Message):
    __slots__ = ("rows", "excluded_rows", "champion_accuracy", "challenger_accuracy", "accuracy_difference", "brier_difference", "gained", "lost", "p_value", "weighted")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_ROWS_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    BRIER_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    GAINED_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    P_VALUE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTED_FIELD_NUMBER: _ClassVar[int]
    rows: int
    excluded_rows: int
    champion_accuracy: float
    challenger_accuracy: float
    accuracy_difference: Interval
    brier_difference: Interval
    gained: int
    lost: int
    p_value: float
    weighted: bool
    def __init__(self, rows: _Optional[int] = ..., excluded_rows: _Optional[int] = ..., champion_accuracy: _Optional[float] = ..., challenger_accuracy: _Optional[float] = ..., accuracy_difference: _Optional[_Union[Interval, _Mapping]] = ..., brier_difference: _Optional[_Union[Interval, _Mapping]] = ..., gained: _Optional[int] = ..., lost: _Optional[int] = ..., p_value: _Optional[float] = ..., weighted: bool = ...) -> None: ...

class Interval(_message.Message):
    __slots__ = ("value", "low", "high")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    value: float
    low: float
    high: float
    def __init__(self, value: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class Calibration(_message.Message):
    __slots__ = ("temperature", "rows", "cross_fitted", "uncalibrated", "calibrated")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    CROSS_FITTED_FIELD_NUMBER: _ClassVar[int]
    UNCALIBRATED_FIELD_NUMBER: _ClassVar[int]
    CALIBRATED_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    rows: int
    cross_fitted: bool
    uncalibrated: Metrics
    calibrated: Metrics
    def __init__(self, temperature: _Optional[float] = ..., rows: _Optional[int] = ..., cross_fitted: bool = ..., uncalibrated: _Optional[_Union[Metrics, _Mapping]] = ..., calibrated: _Optional[_Union[Metrics, _Mapping]] = ...) -> None: ...

class LearntCorrections(_message.Message):
    __slots__ = ("rows", "champion_right", "challenger_right", "by_chance", "p_value")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_RIGHT_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_RIGHT_FIELD_NUMBER: _ClassVar[int]
    BY_CHANCE_FIELD_NUMBER: _ClassVar[int]
    P_VALUE_FIELD_NUMBER: _ClassVar[int]
    rows: int
    champion_right: int
    challenger_right: int
    by_chance: float
    p_value: float
    def __init__(self, rows: _Optional[int] = ..., champion_right: _Optional[int] = ..., challenger_right: _Optional[int] = ..., by_chance: _Optional[float] = ..., p_value: _Optional[float] = ...) -> None: ...

class AdapterVersion(_message.Message):
    __slots__ = ("adapter", "version", "name", "state", "base_model", "base_identity", "job_id", "task_id", "domain", "actor", "create_time", "continued_from", "metrics_before", "metrics_after", "verdict", "path", "sha256", "size_bytes", "files", "lora", "training_samples", "validation_samples", "delete_time", "delete_actor", "delete_reason", "formats", "calibration")
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_FIELD_NUMBER: _ClassVar[int]
    BASE_IDENTITY_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    CONTINUED_FROM_FIELD_NUMBER: _ClassVar[int]
    METRICS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    METRICS_AFTER_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    LORA_FIELD_NUMBER: _ClassVar[int]
    TRAINING_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    DELETE_TIME_FIELD_NUMBER: _ClassVar[int]
    DELETE_ACTOR_FIELD_NUMBER: _ClassVar[int]
    DELETE_REASON_FIELD_NUMBER: _ClassVar[int]
    FORMATS_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    adapter: str
    version: str
    name: str
    state: VersionState
    base_model: str
    base_identity: BaseModelIdentity
    job_id: str
    task_id: str
    domain: str
    actor: str
    create_time: _timestamp_pb2.Timestamp
    continued_from: str
    metrics_before: Metrics
    metrics_after: Metrics
    verdict: Verdict
    path: str
    sha256: str
    size_bytes: int
    files: _containers.RepeatedCompositeFieldContainer[FileInfo]
    lora: LoraConfig
    training_samples: int
    validation_samples: int
    delete_time: _timestamp_pb2.Timestamp
    delete_actor: str
    delete_reason: str
    formats: _containers.RepeatedScalarFieldContainer[AdapterFormat]
    calibration: Calibration
    def __init__(self, adapter: _Optional[str] = ..., version: _Optional[str] = ..., name: _Optional[str] = ..., state: _Optional[_Union[VersionState, str]] = ..., base_model: _Optional[str] = ..., base_identity: _Optional[_Union[BaseModelIdentity, _Mapping]] = ..., job_id: _Optional[str] = ..., task_id: _Optional[str] = ..., domain: _Optional[str] = ..., actor: _Optional[str] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., continued_from: _Optional[str] = ..., metrics_before: _Optional[_Union[Metrics, _Mapping]] = ..., metrics_after: _Optional[_Union[Metrics, _Mapping]] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ..., path: _Optional[str] = ..., sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ..., files: _Optional[_Iterable[_Union[FileInfo, _Mapping]]] = ..., lora: _Optional[_Union[LoraConfig, _Mapping]] = ..., training_samples: _Optional[int] = ..., validation_samples: _Optional[int] = ..., delete_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., delete_actor: _Optional[str] = ..., delete_reason: _Optional[str] = ..., formats: _Optional[_Iterable[_Union[AdapterFormat, str]]] = ..., calibration: _Optional[_Union[Calibration, _Mapping]] = ...) -> None: ...

class FileInfo(_message.Message):
    __slots__ = ("path", "size_bytes", "sha256")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    path: str
    size_bytes: int
    sha256: str
    def __init__(self, path: _Optional[str] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ...) -> None: ...

class BaseModelIdentity(_message.Message):
    __slots__ = ("id", "revision", "digest")
    ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    id: str
    revision: str
    digest: str
    def __init__(self, id: _Optional[str] = ..., revision: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("adapter", "page_size", "page_token", "states", "task_id", "include_history")
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_HISTORY_FIELD_NUMBER: _ClassVar[int]
    adapter: str
    page_size: int
    page_token: str
    states: _containers.RepeatedScalarFieldContainer[VersionState]
    task_id: str
    include_history: bool
    def __init__(self, adapter: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., states: _Optional[_Iterable[_Union[VersionState, str]]] = ..., task_id: _Optional[str] = ..., include_history: bool = ...) -> None: ...

class ListResponse(_message.Message):
    __slots__ = ("versions", "next_page_token", "total_size", "history")
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[AdapterVersion]
    next_page_token: str
    total_size: int
    history: _containers.RepeatedCompositeFieldContainer[PointerChange]
    def __init__(self, versions: _Optional[_Iterable[_Union[AdapterVersion, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ..., history: _Optional[_Iterable[_Union[PointerChange, _Mapping]]] = ...) -> None: ...

class PointerChange(_message.Message):
    __slots__ = ("adapter", "pointer_revision", "active", "previous", "kind", "actor", "reason", "time", "job_id", "heartbeat", "principal")
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    POINTER_REVISION_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    adapter: str
    pointer_revision: int
    active: str
    previous: str
    kind: PointerChangeKind
    actor: str
    reason: str
    time: _timestamp_pb2.Timestamp
    job_id: str
    heartbeat: bool
    principal: str
    def __init__(self, adapter: _Optional[str] = ..., pointer_revision: _Optional[int] = ..., active: _Optional[str] = ..., previous: _Optional[str] = ..., kind: _Optional[_Union[PointerChangeKind, str]] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ..., time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., job_id: _Optional[str] = ..., heartbeat: bool = ..., principal: _Optional[str] = ...) -> None: ...

class RollbackRequest(_message.Message):
    __slots__ = ("adapter", "task_id", "to_version", "reason", "actor", "request_id", "expected_active")
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    TO_VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    adapter: str
    task_id: str
    to_version: str
    reason: str
    actor: str
    request_id: str
    expected_active: str
    def __init__(self, adapter: _Optional[str] = ..., task_id: _Optional[str] = ..., to_version: _Optional[str] = ..., reason: _Optional[str] = ..., actor: _Optional[str] = ..., request_id: _Optional[str] = ..., expected_active: _Optional[str] = ...) -> None: ...

class RollbackResponse(_message.Message):
    __slots__ = ("change", "changed")
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    change: PointerChange
    changed: bool
    def __init__(self, change: _Optional[_Union[PointerChange, _Mapping]] = ..., changed: bool = ...) -> None: ...

class ActivateRequest(_message.Message):
    __slots__ = ("adapter", "version", "reason", "actor", "request_id", "expected_active", "allow_rejected")
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    ALLOW_REJECTED_FIELD_NUMBER: _ClassVar[int]
    adapter: str
    version: str
    reason: str
    actor: str
    request_id: str
    expected_active: str
    allow_rejected: bool
    def __init__(self, adapter: _Optional[str] = ..., version: _Optional[str] = ..., reason: _Optional[str] = ..., actor: _Optional[str] = ..., request_id: _Optional[str] = ..., expected_active: _Optional[str] = ..., allow_rejected: bool = ...) -> None: ...

class ActivateResponse(_message.Message):
    __slots__ = ("change", "changed")
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    change: PointerChange
    changed: bool
    def __init__(self, change: _Optional[_Union[PointerChange, _Mapping]] = ..., changed: bool = ...) -> None: ...

class WatchAdapterRequest(_message.Message):
    __slots__ = ("adapter", "after_revision", "wait_for_adapter")
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    AFTER_REVISION_FIELD_NUMBER: _ClassVar[int]
    WAIT_FOR_ADAPTER_FIELD_NUMBER: _ClassVar[int]
    adapter: str
    after_revision: int
    wait_for_adapter: bool
    def __init__(self, adapter: _Optional[str] = ..., after_revision: _Optional[int] = ..., wait_for_adapter: bool = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("job_id", "state", "adapter", "task_id", "actor", "domain", "base_model", "samples", "create_time", "start_time", "end_time", "queue_position", "attempt", "last_sequence", "progress", "version", "verdict", "failure", "cancel_requested", "continue_from", "lora", "training", "principal")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    QUEUE_POSITION_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    CONTINUE_FROM_FIELD_NUMBER: _ClassVar[int]
    LORA_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    state: JobState
    adapter: str
    task_id: str
    actor: str
    domain: str
    base_model: str
    samples: int
    create_time: _timestamp_pb2.Timestamp
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    queue_position: int
    attempt: int
    last_sequence: int
    progress: Progress
    version: str
    verdict: Verdict
    failure: Failed
    cancel_requested: bool
    continue_from: str
    lora: LoraConfig
    training: TrainingConfig
    principal: str
    def __init__(self, job_id: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ..., adapter: _Optional[str] = ..., task_id: _Optional[str] = ..., actor: _Optional[str] = ..., domain: _Optional[str] = ..., base_model: _Optional[str] = ..., samples: _Optional[int] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., start_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., queue_position: _Optional[int] = ..., attempt: _Optional[int] = ..., last_sequence: _Optional[int] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., version: _Optional[str] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ..., failure: _Optional[_Union[Failed, _Mapping]] = ..., cancel_requested: bool = ..., continue_from: _Optional[str] = ..., lora: _Optional[_Union[LoraConfig, _Mapping]] = ..., training: _Optional[_Union[TrainingConfig, _Mapping]] = ..., principal: _Optional[str] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("adapter", "states", "page_size", "page_token", "task_id")
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    adapter: str
    states: _containers.RepeatedScalarFieldContainer[JobState]
    page_size: int
    page_token: str
    task_id: str
    def __init__(self, adapter: _Optional[str] = ..., states: _Optional[_Iterable[_Union[JobState, str]]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., task_id: _Optional[str] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token", "total_size")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    next_page_token: str
    total_size: int
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("job_id", "actor", "reason")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    actor: str
    reason: str
    def __init__(self, job_id: _Optional[str] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CancelResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("job", "service")
    JOB_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    job: Job
    service: ServiceStatus
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., service: _Optional[_Union[ServiceStatus, _Mapping]] = ...) -> None: ...

class ServiceStatus(_message.Message):
    __slots__ = ("version", "start_time", "device", "base_models", "queued_jobs", "running_jobs", "queue_length", "adapters")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    BASE_MODELS_FIELD_NUMBER: _ClassVar[int]
    QUEUED_JOBS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_JOBS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    version: str
    start_time: _timestamp_pb2.Timestamp
    device: str
    base_models: _containers.RepeatedCompositeFieldContainer[BaseModelStatus]
    queued_jobs: _containers.RepeatedCompositeFieldContainer[Job]
    running_jobs: _containers.RepeatedCompositeFieldContainer[Job]
    queue_length: int
    adapters: _containers.RepeatedCompositeFieldContainer[AdapterStatus]
    def __init__(self, version: _Optional[str] = ..., start_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., device: _Optional[str] = ..., base_models: _Optional[_Iterable[_Union[BaseModelStatus, _Mapping]]] = ..., queued_jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., running_jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., queue_length: _Optional[int] = ..., adapters: _Optional[_Iterable[_Union[AdapterStatus, _Mapping]]] = ...) -> None: ...

class BaseModelStatus(_message.Message):
    __slots__ = ("alias", "identity", "state", "error", "architecture", "parameters", "linear_modules", "default_target_modules", "prompt")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    LINEAR_MODULES_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_TARGET_MODULES_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    alias: str
    identity: BaseModelIdentity
    state: BaseModelState
    error: str
    architecture: str
    parameters: int
    linear_modules: _containers.RepeatedScalarFieldContainer[str]
    default_target_modules: _containers.RepeatedScalarFieldContainer[str]
    prompt: str
    def __init__(self, alias: _Optional[str] = ..., identity: _Optional[_Union[BaseModelIdentity, _Mapping]] = ..., state: _Optional[_Union[BaseModelState, str]] = ..., error: _Optional[str] = ..., architecture: _Optional[str] = ..., parameters: _Optional[int] = ..., linear_modules: _Optional[_Iterable[str]] = ..., default_target_modules: _Optional[_Iterable[str]] = ..., prompt: _Optional[str] = ...) -> None: ...

class AdapterStatus(_message.Message):
    __slots__ = ("adapter", "active", "pointer_revision", "change_time", "versions", "training_due")
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    POINTER_REVISION_FIELD_NUMBER: _ClassVar[int]
    CHANGE_TIME_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_DUE_FIELD_NUMBER: _ClassVar[int]
    adapter: str
    active: str
    pointer_revision: int
    change_time: _timestamp_pb2.Timestamp
    versions: int
    training_due: TrainingDue
    def __init__(self, adapter: _Optional[str] = ..., active: _Optional[str] = ..., pointer_revision: _Optional[int] = ..., change_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., versions: _Optional[int] = ..., training_due: _Optional[_Union[TrainingDue, _Mapping]] = ...) -> None: ...

class TrainingDue(_message.Message):
    __slots__ = ("due", "have_samples", "need_samples", "have_error_rate", "need_error_rate", "explanation", "new_samples")
    DUE_FIELD_NUMBER: _ClassVar[int]
    HAVE_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    NEED_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    HAVE_ERROR_RATE_FIELD_NUMBER: _ClassVar[int]
    NEED_ERROR_RATE_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    NEW_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    due: bool
    have_samples: int
    need_samples: int
    have_error_rate: float
    need_error_rate: float
    explanation: str
    new_samples: int
    def __init__(self, due: bool = ..., have_samples: _Optional[int] = ..., need_samples: _Optional[int] = ..., have_error_rate: _Optional[float] = ..., need_error_rate: _Optional[float] = ..., explanation: _Optional[str] = ..., new_samples: _Optional[int] = ...) -> None: ...

class ClassifyRequest(_message.Message):
    __slots__ = ("adapter", "version", "pairs", "base_model")
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_FIELD_NUMBER: _ClassVar[int]
    adapter: str
    version: str
    pairs: _containers.RepeatedCompositeFieldContainer[Pair]
    base_model: str
    def __init__(self, adapter: _Optional[str] = ..., version: _Optional[str] = ..., pairs: _Optional[_Iterable[_Union[Pair, _Mapping]]] = ..., base_model: _Optional[str] = ...) -> None: ...

class Pair(_message.Message):
    __slots__ = ("premise", "hypothesis")
    PREMISE_FIELD_NUMBER: _ClassVar[int]
    HYPOTHESIS_FIELD_NUMBER: _ClassVar[int]
    premise: str
    hypothesis: str
    def __init__(self, premise: _Optional[str] = ..., hypothesis: _Optional[str] = ...) -> None: ...

class ClassifyResponse(_message.Message):
    __slots__ = ("results", "version", "base_model")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[Classification]
    version: str
    base_model: str
    def __init__(self, results: _Optional[_Iterable[_Union[Classification, _Mapping]]] = ..., version: _Optional[str] = ..., base_model: _Optional[str] = ...) -> None: ...

class Classification(_message.Message):
    __slots__ = ("label", "probabilities", "truncated")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    label: Label
    probabilities: Probabilities
    truncated: bool
    def __init__(self, label: _Optional[_Union[Label, str]] = ..., probabilities: _Optional[_Union[Probabilities, _Mapping]] = ..., truncated: bool = ...) -> None: ...

class Probabilities(_message.Message):
    __slots__ = ("supports", "refutes", "neutral")
    SUPPORTS_FIELD_NUMBER: _ClassVar[int]
    REFUTES_FIELD_NUMBER: _ClassVar[int]
    NEUTRAL_FIELD_NUMBER: _ClassVar[int]
    supports: float
    refutes: float
    neutral: float
    def __init__(self, supports: _Optional[float] = ..., refutes: _Optional[float] = ..., neutral: _Optional[float] = ...) -> None: ...

class ReportRequest(_message.Message):
    __slots__ = ("adapter", "version", "page_size", "page_token")
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    adapter: str
    version: str
    page_size: int
    page_token: str
    def __init__(self, adapter: _Optional[str] = ..., version: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ReportResponse(_message.Message):
    __slots__ = ("version", "rows", "next_page_token", "total_size", "texts_deleted", "champion_metrics", "challenger_metrics")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    TEXTS_DELETED_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_METRICS_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_METRICS_FIELD_NUMBER: _ClassVar[int]
    version: AdapterVersion
    rows: _containers.RepeatedCompositeFieldContainer[ReportRow]
    next_page_token: str
    total_size: int
    texts_deleted: bool
    champion_metrics: Metrics
    challenger_metrics: Metrics
    def __init__(self, version: _Optional[_Union[AdapterVersion, _Mapping]] = ..., rows: _Optional[_Iterable[_Union[ReportRow, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ..., texts_deleted: bool = ..., champion_metrics: _Optional[_Union[Metrics, _Mapping]] = ..., challenger_metrics: _Optional[_Union[Metrics, _Mapping]] = ...) -> None: ...

class ReportRow(_message.Message):
    __slots__ = ("sample", "general", "champion", "challenger", "excluded")
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    GENERAL_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_FIELD_NUMBER: _ClassVar[int]
    sample: Sample
    general: bool
    champion: Probabilities
    challenger: Probabilities
    excluded: bool
    def __init__(self, sample: _Optional[_Union[Sample, _Mapping]] = ..., general: bool = ..., champion: _Optional[_Union[Probabilities, _Mapping]] = ..., challenger: _Optional[_Union[Probabilities, _Mapping]] = ..., excluded: bool = ...) -> None: ...

class Review(_message.Message):
    __slots__ = ("sample", "task_id", "domain", "review_time")
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    REVIEW_TIME_FIELD_NUMBER: _ClassVar[int]
    sample: Sample
    task_id: str
    domain: str
    review_time: _timestamp_pb2.Timestamp
    def __init__(self, sample: _Optional[_Union[Sample, _Mapping]] = ..., task_id: _Optional[str] = ..., domain: _Optional[str] = ..., review_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RecordFeedbackRequest(_message.Message):
    __slots__ = ("reviews", "actor")
    REVIEWS_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    reviews: _containers.RepeatedCompositeFieldContainer[Review]
    actor: str
    def __init__(self, reviews: _Optional[_Iterable[_Union[Review, _Mapping]]] = ..., actor: _Optional[str] = ...) -> None: ...

class RecordFeedbackResponse(_message.Message):
    __slots__ = ("stored", "unchanged", "revised", "ids")
    STORED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    REVISED_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    stored: int
    unchanged: int
    revised: int
    ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, stored: _Optional[int] = ..., unchanged: _Optional[int] = ..., revised: _Optional[int] = ..., ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ListFeedbackRequest(_message.Message):
    __slots__ = ("task_ids", "domains", "reviewed_after", "reviewed_before", "used_by", "not_used_by", "page_size", "page_token", "include_summary")
    TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    DOMAINS_FIELD_NUMBER: _ClassVar[int]
    REVIEWED_AFTER_FIELD_NUMBER: _ClassVar[int]
    REVIEWED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    USED_BY_FIELD_NUMBER: _ClassVar[int]
    NOT_USED_BY_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_SUMMARY_FIELD_NUMBER: _ClassVar[int]
    task_ids: _containers.RepeatedScalarFieldContainer[str]
    domains: _containers.RepeatedScalarFieldContainer[str]
    reviewed_after: _timestamp_pb2.Timestamp
    reviewed_before: _timestamp_pb2.Timestamp
    used_by: str
    not_used_by: str
    page_size: int
    page_token: str
    include_summary: bool
    def __init__(self, task_ids: _Optional[_Iterable[str]] = ..., domains: _Optional[_Iterable[str]] = ..., reviewed_after: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., reviewed_before: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., used_by: _Optional[str] = ..., not_used_by: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., include_summary: bool = ...) -> None: ...

class ListFeedbackResponse(_message.Message):
    __slots__ = ("reviews", "next_page_token", "total_size", "summary")
    REVIEWS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    reviews: _containers.RepeatedCompositeFieldContainer[RecordedReview]
    next_page_token: str
    total_size: int
    summary: FeedbackSummary
    def __init__(self, reviews: _Optional[_Iterable[_Union[RecordedReview, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ..., summary: _Optional[_Union[FeedbackSummary, _Mapping]] = ...) -> None: ...

class RecordedReview(_message.Message):
    __slots__ = ("review", "revision", "actor", "record_time", "used_by", "superseded", "principal")
    REVIEW_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    RECORD_TIME_FIELD_NUMBER: _ClassVar[int]
    USED_BY_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    review: Review
    revision: int
    actor: str
    record_time: _timestamp_pb2.Timestamp
    used_by: _containers.RepeatedScalarFieldContainer[str]
    superseded: bool
    principal: str
    def __init__(self, review: _Optional[_Union[Review, _Mapping]] = ..., revision: _Optional[int] = ..., actor: _Optional[str] = ..., record_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., used_by: _Optional[_Iterable[str]] = ..., superseded: bool = ..., principal: _Optional[str] = ...) -> None: ...

class FeedbackSummary(_message.Message):
    __slots__ = ("reviews", "revisions", "samples", "corrections", "confirmations", "labels", "tasks", "domains", "versions", "first_review_time", "last_review_time")
    REVIEWS_FIELD_NUMBER: _ClassVar[int]
    REVISIONS_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    CORRECTIONS_FIELD_NUMBER: _ClassVar[int]
    CONFIRMATIONS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    DOMAINS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    FIRST_REVIEW_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_REVIEW_TIME_FIELD_NUMBER: _ClassVar[int]
    reviews: int
    revisions: int
    samples: int
    corrections: int
    confirmations: int
    labels: _containers.RepeatedCompositeFieldContainer[FeedbackCount]
    tasks: _containers.RepeatedCompositeFieldContainer[FeedbackCount]
    domains: _containers.RepeatedCompositeFieldContainer[FeedbackCount]
    versions: _containers.RepeatedCompositeFieldContainer[FeedbackCount]
    first_review_time: _timestamp_pb2.Timestamp
    last_review_time: _timestamp_pb2.Timestamp
    def __init__(self, reviews: _Optional[int] = ..., revisions: _Optional[int] = ..., samples: _Optional[int] = ..., corrections: _Optional[int] = ..., confirmations: _Optional[int] = ..., labels: _Optional[_Iterable[_Union[FeedbackCount, _Mapping]]] = ..., tasks: _Optional[_Iterable[_Union[FeedbackCount, _Mapping]]] = ..., domains: _Optional[_Iterable[_Union[FeedbackCount, _Mapping]]] = ..., versions: _Optional[_Iterable[_Union[FeedbackCount, _Mapping]]] = ..., first_review_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., last_review_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class FeedbackCount(_message.Message):
    __slots__ = ("name", "count")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    name: str
    count: int
    def __init__(self, name: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class DownloadRequest(_message.Message):
    __slots__ = ("adapter", "version", "format", "file", "offset", "archive", "contents_only")
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    CONTENTS_ONLY_FIELD_NUMBER: _ClassVar[int]
    adapter: str
    version: str
    format: AdapterFormat
    file: str
    offset: int
    archive: bool
    contents_only: bool
    def __init__(self, adapter: _Optional[str] = ..., version: _Optional[str] = ..., format: _Optional[_Union[AdapterFormat, str]] = ..., file: _Optional[str] = ..., offset: _Optional[int] = ..., archive: bool = ..., contents_only: bool = ...) -> None: ...

class DownloadResponse(_message.Message):
    __slots__ = ("file", "offset", "data", "contents")
    FILE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CONTENTS_FIELD_NUMBER: _ClassVar[int]
    file: FileInfo
    offset: int
    data: bytes
    contents: DownloadContents
    def __init__(self, file: _Optional[_Union[FileInfo, _Mapping]] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ..., contents: _Optional[_Union[DownloadContents, _Mapping]] = ...) -> None: ...

class DownloadContents(_message.Message):
    __slots__ = ("adapter", "version", "format", "files", "archive")
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    adapter: str
    version: str
    format: AdapterFormat
    files: _containers.RepeatedCompositeFieldContainer[FileInfo]
    archive: FileInfo
    def __init__(self, adapter: _Optional[str] = ..., version: _Optional[str] = ..., format: _Optional[_Union[AdapterFormat, str]] = ..., files: _Optional[_Iterable[_Union[FileInfo, _Mapping]]] = ..., archive: _Optional[_Union[FileInfo, _Mapping]] = ...) -> None: ...

class DeleteVersionRequest(_message.Message):
    __slots__ = ("adapter", "version", "reason", "actor")
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    adapter: str
    version: str
    reason: str
    actor: str
    def __init__(self, adapter: _Optional[str] = ..., version: _Optional[str] = ..., reason: _Optional[str] = ..., actor: _Optional[str] = ...) -> None: ...

class DeleteVersionResponse(_message.Message):
    __slots__ = ("version", "changed")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    version: AdapterVersion
    changed: bool
    def __init__(self, version: _Optional[_Union[AdapterVersion, _Mapping]] = ..., changed: bool = ...) -> None: ...

class DeleteFeedbackRequest(_message.Message):
    __slots__ = ("task_ids", "sample_ids")
    TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_IDS_FIELD_NUMBER: _ClassVar[int]
    task_ids: _containers.RepeatedScalarFieldContainer[str]
    sample_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, task_ids: _Optional[_Iterable[str]] = ..., sample_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class DeleteFeedbackResponse(_message.Message):
    __slots__ = ("reviews", "job_rows")
    REVIEWS_FIELD_NUMBER: _ClassVar[int]
    JOB_ROWS_FIELD_NUMBER: _ClassVar[int]
    reviews: int
    job_rows: int
    def __init__(self, reviews: _Optional[int] = ..., job_rows: _Optional[int] = ...) -> None: ...
