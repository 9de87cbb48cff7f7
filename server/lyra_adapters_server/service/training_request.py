"""Checks a TrainRequest field by field and fills in the defaults: from message to domain."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import Message
from lyra_adapters.v1 import adapter_service_pb2 as pb

from lyra_adapters_server.feedback.due import Trigger
from lyra_adapters_server.feedback.selection import MAX_SAMPLE_BYTES, MAX_SAMPLES, FeedbackSource
from lyra_adapters_server.jobs.acceptance import NewJob
from lyra_adapters_server.service.feedback_filters import read_filter
from lyra_adapters_server.service.fields import Findings
from lyra_adapters_server.service.samples import SampleReader
from lyra_adapters_server.trainer.learning_rate import usual_peak
from lyra_adapters_server.types import BaseCard, Candidate, LoraConfig, Sample, TrainingConfig

DEFAULT_ADAPTER = "user_feedback"
MAX_NAME = 200
MAX_RANK = 256
ALL_LINEAR = "all-linear"

ACTIVATIONS: dict[int, str] = {
    pb.ACTIVATION_UNSPECIFIED: "GATED",
    pb.ACTIVATION_GATED: "GATED",
    pb.ACTIVATION_MANUAL: "MANUAL",
    pb.ACTIVATION_ALWAYS: "ALWAYS",
}

# Bounds of TrainingConfig: low, high, whether the low bound itself is out.
TRAINING_BOUNDS: dict[str, tuple[float, float, bool]] = {
    "epochs": (1, 100, False),
    "learning_rate": (0, 0.1, True),
    "batch_size": (1, 1024, False),
    "max_length": (32, 8192, False),
    "seed": (-(2**63), 2**63 - 1, False),
    "validation_fraction": (0, 0.9, False),
    "patience": (0, 100, False),
    "weight_decay": (0, 1, False),
    "warmup_ratio": (0, 1, False),
    "max_grad_norm": (0, 1e6, True),
    "label_smoothing": (0, 0.5, False),
    "evaluations_per_epoch": (1, 100, False),
    "inner_fraction": (0, 0.5, False),
    "folds": (1, 10, False),
    "distillation": (0, 4, False),
}
CANDIDATE_FIELDS = ("epochs", "learning_rate")
MAX_CANDIDATES = 8
SWITCHES = ("balance_labels", "replay_general_rows", "balance_reviews")


def check_request_id(request: pb.TrainRequest) -> None:
    """Raises Refusal unless the request id is empty or a UUID."""
    findings = Findings()
    findings.uuid("request_id", request.request_id)
    findings.raise_if_any()


def to_new_job(request: pb.TrainRequest, principal: str, digest: str, card: BaseCard) -> NewJob:
    """The job that the request asks for, on the base model of `card`. Raises Refusal."""
    findings = Findings()
    adapter = request.adapter or DEFAULT_ADAPTER
    findings.adapter("adapter", adapter)
    for field in ("task_id", "actor"):
        findings.text(field, getattr(request, field), MAX_NAME)
    findings.domain("domain", request.domain, MAX_NAME)
    findings.known("activation", request.activation, ACTIVATIONS, "ACTIVATION_GATED, _MANUAL, _ALWAYS")
    findings.known("conflicts", request.conflicts, (0, 1, 2), "CONFLICT_POLICY_REFUSE, _KEEP_NEWEST")
    lora = _lora(request.lora, card, findings)
    training = _training(request.training, card, findings, continued=bool(request.continue_from))
    if training.distillation and not request.continue_from and not card.has_head:
        findings.add(
            "training.distillation",
            f"needs answers to keep, and {card.alias} has no NLI head; name a version in continue_from, or give 0",
        )
    trigger = _trigger(request.trigger, findings)
    samples = _samples(request, findings)
    findings.raise_if_any()
    return NewJob(
        principal=principal,
        request_id=request.request_id.lower() or None,
        request_digest=digest,
        adapter=adapter,
        task_id=request.task_id,
        actor=request.actor,
        domain=request.domain,
        base_alias=card.alias,
        activation=ACTIVATIONS[request.activation],
        continue_from=request.continue_from,
        samples=samples,
        lora=lora,
        training=training,
        trigger=trigger,
        keep_newest=request.conflicts == pb.CONFLICT_POLICY_KEEP_NEWEST,
    )


def _samples(request: pb.TrainRequest, findings: Findings) -> tuple[Sample, ...] | FeedbackSource:
    has_feedback = request.HasField("feedback")
    if has_feedback and request.samples:
        findings.add("samples", "came together with feedback; send either samples or feedback")
        return ()
    if has_feedback:
        chosen = read_filter(request.feedback, findings, "feedback.")
        return FeedbackSource(chosen, only_new=request.feedback.only_new)
    if not request.samples:
        findings.add("samples", f"is empty; send 1 to {MAX_SAMPLES:,} samples, or feedback")
        return ()
    if len(request.samples) > MAX_SAMPLES:
        findings.add("samples", f"has {len(request.samples):,} rows; at most {MAX_SAMPLES:,} are allowed")
        return ()
    size = sum(sample.ByteSize() for sample in request.samples)
    if size > MAX_SAMPLE_BYTES:
        findings.add("samples", f"has {size / 2**20:.1f} MiB; at most {MAX_SAMPLE_BYTES // 2**20} MiB are allowed")
        return ()
    reader = SampleReader(findings)
    samples: list[Sample] = []
    for index, message in enumerate(request.samples):
        sample = reader.read(f"samples[{index}]", message)
        if findings.full:
            break
        if sample:
            samples.append(sample)
    return tuple(samples)


def _lora(message: pb.LoraConfig, card: BaseCard, findings: Findings) -> LoraConfig:
    lora = LoraConfig(**_given(message, ("rank", "alpha", "dropout")))
    targets = _targets(tuple(message.target_modules), card, findings)
    sides = [min(card.linear_modules[name]) for name in targets if name in card.linear_modules]
    findings.number("lora.rank", lora.rank, 1, min([MAX_RANK, *sides]))
    findings.number("lora.alpha", lora.alpha, 0, 1024, above=True)
    findings.number("lora.dropout", lora.dropout, 0, 1, below=True)
    return lora.model_copy(update={"target_modules": targets, "upper_half": message.upper_half})


def _targets(asked: tuple[str, ...], card: BaseCard, findings: Findings) -> tuple[str, ...]:
    if not asked:
        return card.default_target_modules
    if ALL_LINEAR in asked:
        if len(asked) > 1:
            findings.add("lora.target_modules", f"{ALL_LINEAR} stands for all of them; give it alone")
        return tuple(sorted(card.linear_modules))
    modules = ", ".join(sorted(card.linear_modules))
    for index, name in enumerate(asked):
        if name not in card.linear_modules:
            findings.add(
                f"lora.target_modules[{index}]",
                f"{name[:80]!r} is no linear module of {card.alias}; there are {modules} and {ALL_LINEAR}",
            )
    return tuple(sorted(set(asked)))


def _training(message: pb.TrainingConfig, card: BaseCard, findings: Findings, *, continued: bool) -> TrainingConfig:
    given = _given(message, TRAINING_BOUNDS)
    training = TrainingConfig(**{"learning_rate": usual_peak(card, continued=continued), **given})
    for field, (low, high, above) in TRAINING_BOUNDS.items():
        top = min(high, card.max_length) if field == "max_length" else high
        if field in given:
            findings.number(f"training.{field}", given[field], low, top, above=above)
    candidates = _candidates(message, training, findings)
    if len(candidates) > 1 and not training.inner_fraction and (training.folds or 1) == 1:
        findings.add(
            "training.candidates", "need rows to be compared on: an inner_fraction above 0, or 2 folds or more"
        )
        findings.add("training.inner_fraction", "is 0 without folds, which leaves no rows to compare candidates on")
    switches = {name: getattr(message, name) for name in SWITCHES if message.HasField(name)}
    max_length = min(training.max_length, card.max_length)
    return training.model_copy(update={"max_length": max_length, "candidates": candidates, **switches})


def _candidates(message: pb.TrainingConfig, training: TrainingConfig, findings: Findings) -> tuple[Candidate, ...]:
    if len(message.candidates) > MAX_CANDIDATES:
        findings.add(
            "training.candidates", f"has {len(message.candidates)} entries; at most {MAX_CANDIDATES} are tried"
        )
        return ()
    found: list[Candidate] = []
    settings: list[TrainingConfig] = []
    for index, one in enumerate(message.candidates):
        path, given = f"training.candidates[{index}]", _given(one, CANDIDATE_FIELDS)
        if not given:
            findings.add(path, "is empty; give epochs, learning_rate or both")
        for field, value in given.items():
            low, high, above = TRAINING_BOUNDS[field]
            findings.number(f"{path}.{field}", value, low, high, above=above)
        candidate = Candidate(**given)
        # What is left out is the job's own: candidates that are written otherwise may come to the same.
        settings.append(training.model_copy(update=given))
        if (first := settings.index(settings[-1])) < index:
            findings.add(path, f"comes to the same settings as training.candidates[{first}]")
        found.append(candidate)
    return tuple(found)


def _trigger(message: pb.TriggerPolicy, findings: Findings) -> Trigger:
    trigger = Trigger(**_given(message, ("min_samples", "min_error_rate")), force=message.force)
    findings.number("trigger.min_samples", trigger.min_samples, 1, MAX_SAMPLES)
    findings.number("trigger.min_error_rate", trigger.min_error_rate, 0, 1)
    return trigger


def _given(message: Message, fields: Iterable[str]) -> dict[str, Any]:
    """The fields that are set. Floats lose the digits that single precision made up: 0.0005, not 0.000500000023."""
    given = {field: getattr(message, field) for field in fields if message.HasField(field)}
    return {key: float(f"{value:.7g}") if isinstance(value, float) else value for key, value in given.items()}
