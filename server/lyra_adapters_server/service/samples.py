"""Checks a Sample field by field: the same for rows that are sent to train on and for reviews that are recorded."""

from __future__ import annotations

from lyra_adapters.v1 import adapter_service_pb2 as pb

from lyra_adapters_server.service.fields import Findings
from lyra_adapters_server.types import Label, Sample

MAX_PREMISE = 20_000
MAX_HYPOTHESIS = 4_000
MAX_ID = 200
MAX_GROUP = 500

LABELS_BY_NUMBER: dict[int, Label] = {
    pb.LABEL_SUPPORTS: Label.SUPPORTS,
    pb.LABEL_REFUTES: Label.REFUTES,
    pb.LABEL_NEUTRAL: Label.NEUTRAL,
}
LABEL_NAMES = "LABEL_SUPPORTS, LABEL_REFUTES, LABEL_NEUTRAL"


class SampleReader:
    """Reads the samples of one request; ids that are given must differ."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._seen: dict[str, str] = {}

    def read(self, path: str, message: pb.Sample) -> Sample | None:
        """The sample at `path`, or None where something was found wrong with it."""
        findings = self._findings
        before = len(findings.violations)
        findings.text(f"{path}.id", message.id, MAX_ID)
        findings.text(f"{path}.premise", message.premise, MAX_PREMISE, required=True)
        findings.text(f"{path}.hypothesis", message.hypothesis, MAX_HYPOTHESIS, required=True)
        findings.text(f"{path}.group", message.group, MAX_GROUP)
        if message.correct_label == pb.LABEL_UNSPECIFIED:
            findings.add(f"{path}.correct_label", f"is required: one of {LABEL_NAMES}")
        else:
            findings.known(f"{path}.correct_label", message.correct_label, LABELS_BY_NUMBER, LABEL_NAMES)
        findings.known(f"{path}.original_label", message.original_label, (0, *LABELS_BY_NUMBER), LABEL_NAMES)
        confidence = message.original_confidence if message.HasField("original_confidence") else None
        if confidence is not None:
            findings.number(f"{path}.original_confidence", confidence, 0, 1)
        if message.id and (first := self._seen.setdefault(message.id, path)) != path:
            findings.add(f"{path}.id", f"is that of {first} too; ids must differ")
        if len(findings.violations) > before:
            return None
        return Sample(
            id=message.id,
            premise=message.premise,
            hypothesis=message.hypothesis,
            correct_label=LABELS_BY_NUMBER[message.correct_label],
            original_label=LABELS_BY_NUMBER.get(message.original_label),
            original_confidence=confidence,
            group=message.group,
        )
