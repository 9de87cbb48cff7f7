"""Versions and scores in the proto's JSON form, as they are stored in events and turned into messages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from lyra_adapters_server.registry.layout import Layout
from lyra_adapters_server.registry.names import full_name
from lyra_adapters_server.storage.versions import VersionRecord
from lyra_adapters_server.trainer.events import Calibration
from lyra_adapters_server.types import LABELS, Metrics


def timestamp(time_us: int) -> str:
    """Microseconds since the epoch as RFC 3339."""
    return datetime.fromtimestamp(time_us / 1e6, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def metrics_payload(metrics: Metrics | None) -> dict[str, Any] | None:
    """Scores as protos: Metrics."""
    if metrics is None:
        return None
    names = [label.lower() for label in LABELS]
    confusion = {name: dict(zip(names, row, strict=True)) for name, row in zip(names, metrics.confusion, strict=True)}
    return {**metrics.model_dump(exclude={"confusion"}), "confusion": confusion}


def calibration_payload(found: Calibration) -> dict[str, Any]:
    """A temperature as protos: Calibration."""
    scores = {"uncalibrated": metrics_payload(found.uncalibrated), "calibrated": metrics_payload(found.calibrated)}
    said = found.model_dump(mode="json", exclude=set(scores))
    return {**said, **{name: value for name, value in scores.items() if value is not None}}


def version_payload(layout: Layout, record: VersionRecord) -> dict[str, Any]:
    """A version as protos: AdapterVersion."""
    payload: dict[str, Any] = {
        "adapter": record.adapter,
        "version": f"v{record.number}",
        "name": full_name(record.adapter, record.number),
        "state": f"VERSION_STATE_{record.state}",
        "base_model": record.base_identity["id"],
        "base_identity": record.base_identity,
        "job_id": record.job_id,
        "task_id": record.task_id,
        "domain": record.domain,
        "actor": record.actor,
        "create_time": timestamp(record.create_time),
        "continued_from": record.continued_from,
        "verdict": record.verdict,
        "path": str(layout.version(record.adapter, record.number)),
        "sha256": record.sha256,
        "size_bytes": record.size_bytes,
        "files": record.files,
        "lora": record.lora,
        "training_samples": record.training_samples,
        "validation_samples": record.validation_samples,
        "formats": [f"ADAPTER_FORMAT_{form}" for form in _formats(record)],
    }
    if record.delete_time is not None:
        payload["delete_time"] = timestamp(record.delete_time)
        payload |= {"delete_actor": record.delete_actor, "delete_reason": record.delete_reason, "path": ""}
    if record.calibration is not None:
        payload["calibration"] = record.calibration
    for field in ("metrics_before", "metrics_after"):
        if (metrics := getattr(record, field)) is not None:
            payload[field] = metrics
    return payload


def _formats(record: VersionRecord) -> list[str]:
    made = sorted(record.formats.split(",")) if record.formats else []
    return ["PEFT", *made] if record.delete_time is None else []
