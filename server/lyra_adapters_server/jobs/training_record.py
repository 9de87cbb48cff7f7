"""training.json: what a version was trained on and how, for whoever wants to know or to repeat it. Ids, no texts."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection

from lyra_adapters_server.registry.anchor import is_correction
from lyra_adapters_server.storage.jobs import JobRecord, events_after
from lyra_adapters_server.trainer.balance import label_weights, review_weights
from lyra_adapters_server.trainer.events import Trained
from lyra_adapters_server.trainer.spec import TrainSpec
from lyra_adapters_server.types import LABELS, BaseCard, Sample


def data_care(connection: Connection, job_id: str) -> dict[str, Any]:
    """What became of rows when the job was accepted, as its first event tells it."""
    first = events_after(connection, job_id, 0, 1)
    payload = first[0].payload if first else {}
    return {name: payload.get(name, 0) for name in ("merged_duplicates", "merged_near_duplicates", "dropped_conflicts")}


def training_record(
    job: JobRecord, spec: TrainSpec, trained: Trained, base: BaseCard, care: dict[str, Any]
) -> dict[str, Any]:
    """The content of training.json.

    Args:
        job: The job.
        spec: What the trainer was asked.
        trained: What came of it.
        base: The base model.
        care: data_care().
    """
    rows = [*spec.training_samples, *spec.validation_samples]
    content = "\n".join(json.dumps(row.model_dump(mode="json"), sort_keys=True) for row in rows)
    trained_on = (*spec.training_samples, *spec.replay_samples)
    reviews = review_weights(trained_on, spec.training.balance_reviews)
    labels = label_weights(trained_on, spec.training.balance_labels, reviews) or {}
    inner = {row for fold in spec.inner or () for row in fold}
    return {
        "job_id": job.job_id,
        "attempts": job.attempt,
        "task_id": job.task_id,
        "domain": job.domain,
        "base": base.identity.model_dump(mode="json"),
        "prompt": base.prompt_name,
        "continued_from": job.continue_from,
        "lora": job.lora,
        "training": job.training,
        "data": {
            "sha256": hashlib.sha256(content.encode()).hexdigest(),
            "training_ids": [row.id for row in spec.training_samples],
            "held_out_ids": [row.id for row in spec.validation_samples],
            "inner_ids": [spec.training_samples[row].id for row in sorted(inner)],
            "replayed_general_ids": [row.id for row in spec.replay_samples],
            "truncated_samples": trained.truncated_samples,
            **care,
            "training_labels": _labels(spec.training_samples),
            "held_out_labels": _labels(spec.validation_samples),
            "label_weights": {label: round(labels[label], 4) for label in LABELS if label in labels},
            "review_weights": _review_weights(trained_on, reviews or ()),
            "distilled_pairs": trained.distilled_pairs,
            "corrections": sum(map(is_correction, rows)),
            "confirmations": sum(row.original_label == row.correct_label for row in rows),
        },
        "result": {
            "steps": trained.steps,
            "best_step": trained.best_step,
            "stopped_early": trained.stopped_early,
            "training_seconds": round(trained.training_seconds, 3),
            "temperature": trained.calibration.temperature,
            "runs": [run.model_dump(mode="json") for run in trained.runs],
        },
        "plan": trained.plan.model_dump(mode="json"),
        "server_version": importlib.metadata.version("lyra-adapters"),
    }


def _review_weights(samples: Sequence[Sample], weights: Sequence[float]) -> dict[str, float]:
    kinds = {"correction" if is_correction(row) else "confirmation": weight
             for row, weight in zip(samples, weights, strict=False) if row.original_label is not None}  # fmt: skip
    return {kind: round(weight, 4) for kind, weight in sorted(kinds.items())}


def _labels(samples: Iterable[Sample]) -> dict[str, int]:
    counts = Counter(sample.correct_label for sample in samples)
    return {label: counts[label] for label in LABELS}
