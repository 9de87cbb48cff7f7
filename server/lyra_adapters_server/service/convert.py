"""From domain to messages; training_request.py goes the other way."""

from __future__ import annotations

from google.protobuf.json_format import ParseDict
from google.protobuf.timestamp_pb2 import Timestamp
from lyra_adapters.v1 import adapter_service_pb2 as pb

from lyra_adapters_server.feedback.outlook import Outlook
from lyra_adapters_server.registry.describe import version_payload
from lyra_adapters_server.registry.layout import Layout
from lyra_adapters_server.registry.names import full_name
from lyra_adapters_server.storage.jobs import EventRecord, JobRecord
from lyra_adapters_server.storage.versions import ActivationRecord, PointerRecord, VersionRecord
from lyra_adapters_server.types import Sample


def timestamp(time_us: int | None) -> Timestamp | None:
    """Microseconds since the epoch as a message; None stays absent."""
    if time_us is None:
        return None
    return Timestamp(seconds=time_us // 1_000_000, nanos=time_us % 1_000_000 * 1000)


def sample_message(sample: Sample) -> pb.Sample:
    """A review."""
    return pb.Sample(
        id=sample.id,
        premise=sample.premise,
        hypothesis=sample.hypothesis,
        correct_label=f"LABEL_{sample.correct_label}",
        original_label=f"LABEL_{sample.original_label}" if sample.original_label else None,
        original_confidence=sample.original_confidence,
        group=sample.group,
    )


def event_message(record: EventRecord) -> pb.TrainEvent:
    """A stored event."""
    event = pb.TrainEvent(job_id=record.job_id, sequence=record.sequence, time=timestamp(record.time))
    part = getattr(event, record.kind)
    part.SetInParent()
    ParseDict(record.payload, part)
    return event


def heartbeat(job_id: str, time_us: int) -> pb.TrainEvent:
    """A sign of life of one stream."""
    return pb.TrainEvent(job_id=job_id, time=timestamp(time_us), heartbeat=pb.Heartbeat())


def version_message(layout: Layout, record: VersionRecord) -> pb.AdapterVersion:
    """A version."""
    return ParseDict(version_payload(layout, record), pb.AdapterVersion())


def job_message(record: JobRecord, queue_position: int = 0) -> pb.Job:
    """A job; `queue_position` counts only while it is queued."""
    message = pb.Job(
        job_id=record.job_id,
        state=f"JOB_STATE_{record.state}",
        adapter=record.adapter,
        task_id=record.task_id,
        actor=record.actor,
        domain=record.domain,
        base_model=record.base_model,
        samples=record.samples,
        create_time=timestamp(record.create_time),
        start_time=timestamp(record.start_time),
        end_time=timestamp(record.end_time),
        queue_position=queue_position if record.state == "QUEUED" else 0,
        attempt=record.attempt,
        last_sequence=record.last_sequence,
        version=record.version or "",
        cancel_requested=record.cancel_requested and not record.finished,
        continue_from=record.continue_from,
        lora=pb.LoraConfig(**record.lora),
        training=pb.TrainingConfig(**record.training),
        principal=record.principal,
    )
    if record.progress:
        ParseDict(record.progress, message.progress)
    if record.verdict:
        ParseDict(record.verdict, message.verdict)
    if record.failure:
        ParseDict(record.failure, message.failure)
    return message


def pointer_change_message(record: ActivationRecord) -> pb.PointerChange:
    """A change of what is in force."""
    return pb.PointerChange(
        adapter=record.adapter,
        pointer_revision=record.revision,
        active=full_name(record.adapter, record.active),
        previous=full_name(record.adapter, record.previous),
        kind=f"POINTER_CHANGE_KIND_{record.kind or 'UNSPECIFIED'}",
        actor=record.actor,
        reason=record.reason,
        time=timestamp(record.time or None),
        job_id=record.job_id,
        principal=record.principal,
    )


def adapter_status(record: PointerRecord, outlook: Outlook) -> pb.AdapterStatus:
    """What is in force under a name, and whether to train."""
    due = outlook.due
    return pb.AdapterStatus(
        adapter=record.adapter,
        active=full_name(record.adapter, record.active),
        pointer_revision=record.pointer_revision,
        change_time=timestamp(record.change_time),
        versions=record.versions,
        training_due=pb.TrainingDue(
            due=due.due,
            have_samples=due.counts.samples,
            need_samples=due.trigger.min_samples,
            have_error_rate=due.counts.error_rate,
            need_error_rate=due.trigger.min_error_rate,
            explanation=outlook.explanation,
            new_samples=outlook.new_samples,
        ),
    )
