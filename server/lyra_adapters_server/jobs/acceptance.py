"""Accepts a training job: one transaction, after which it can't be lost."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from lyra_adapters_server.errors import Kind, Refusal, Violation, invalid
from lyra_adapters_server.feedback.domains import new_domains
from lyra_adapters_server.feedback.due import Trigger, check_any, check_due
from lyra_adapters_server.feedback.merge import Merged, content_digest, merge
from lyra_adapters_server.feedback.near import Distinct, merge_near_duplicates
from lyra_adapters_server.feedback.selection import MAX_SAMPLE_BYTES, MAX_SAMPLES, FeedbackSource, select_feedback
from lyra_adapters_server.feedback.split import keys_of, split
from lyra_adapters_server.jobs.limits import QueueLimits, check_queue
from lyra_adapters_server.jobs.seen import contents_seen, positions_seen
from lyra_adapters_server.jobs.settling import settle_training
from lyra_adapters_server.registry.names import parse_full_name
from lyra_adapters_server.registry.pointer import whole_version
from lyra_adapters_server.storage import jobs as store
from lyra_adapters_server.storage import versions
from lyra_adapters_server.storage.database import Database, now_us
from lyra_adapters_server.storage.jobs import JobRecord
from lyra_adapters_server.storage.reserve import Reserve
from lyra_adapters_server.types import LoraConfig, Sample, TrainingConfig


@dataclass(frozen=True)
class NewJob:
    """A request to train, checked field by field, with every default filled in."""

    principal: str
    # None: the call has no retries to recognise.
    request_id: str | None
    # Digest of the request's content.
    request_digest: str
    adapter: str
    task_id: str
    actor: str
    domain: str
    base_alias: str
    activation: str
    continue_from: str
    # What to train on: rows sent with the request, or which recorded reviews.
    samples: tuple[Sample, ...] | FeedbackSource
    lora: LoraConfig
    training: TrainingConfig
    trigger: Trigger
    keep_newest: bool


def same_request(job: JobRecord, digest: str) -> JobRecord:
    """The job that an earlier call with this request id created. Raises Refusal if its content was another."""
    if job.request_digest != digest:
        raise Refusal(
            Kind.ALREADY_EXISTS,
            "REQUEST_ID_REUSED",
            f"request_id {job.request_id} was used for job {job.job_id} with other content; take a new UUID for "
            "every logical call.",
            metadata={"job_id": job.job_id},
        )
    return job


def unknown_parent(name: str) -> Refusal:
    """Refuses a version to continue from that does not exist."""
    return Refusal(
        Kind.NOT_FOUND,
        "VERSION_NOT_FOUND",
        f"continue_from: there is no version {name[:80]!r}; List shows those there are.",
    )


async def accept(database: Database, new: NewJob, limits: QueueLimits) -> tuple[JobRecord, bool]:
    """Stores the job, or finds the one that the same request created before; True if it is new. Raises Refusal."""
    sent = None
    if not isinstance(new.samples, FeedbackSource):
        # Before the transaction, so that it stays short, and on a thread, so that other calls are answered meanwhile.
        sent = await asyncio.to_thread(merge, new.samples, keep_newest=new.keep_newest)
    return await database.write(lambda connection: _store(connection, new, sent, limits, database.reserve), "accept")


def _store(
    connection: Connection, new: NewJob, sent: Merged | None, limits: QueueLimits, reserve: Reserve
) -> tuple[JobRecord, bool]:
    if new.request_id is not None:
        earlier = store.find_request(connection, new.principal, new.request_id)
        if earlier is not None:
            return same_request(earlier, new.request_digest), False
    # Only now: a retry gets the job of the first call, however full the queue is and whatever was recorded since.
    check_queue(connection, new.principal, limits)
    # A job that nobody could carry out, since the disk is full, is not acknowledged.
    reserve.hold()
    recorded = sent is None
    merged, left_out = (sent, 0) if sent else _recorded(connection, new)
    fresh = new_domains([new.domain], store.known_domains(connection, new.adapter))
    check_due(merged.samples, new.trigger, new_domain=bool(fresh))
    _check_parent(connection, new)
    versions.ensure_adapter(connection, new.adapter)
    keys = [key for sample in merged.samples for key in keys_of(sample)]
    known = versions.known_sides(connection, new.adapter, keys)
    # After it was decided whether training is due: Status counts them, too.
    found = merge_near_duplicates(merged.samples) if recorded else Distinct(merged.samples, [])
    samples, near = found.samples, len(found.merged) - found.conflicts
    divided = split(samples, new.training.validation_fraction, new.adapter, known, found.merged)
    if not divided.training:
        raise invalid([_nothing_to_train_on(new, len(samples), before=any(known.values()))], "NOTHING_TO_TRAIN_ON")
    settled = settle_training(
        new.training,
        divided.training,
        recorded=recorded,
        continued=bool(new.continue_from),
        seen=positions_seen(divided.training, contents_seen(connection, new.continue_from)),
    )
    job_id = str(uuid.uuid4())
    created = store.insert_job(
        connection,
        {
            "job_id": job_id,
            "principal": new.principal,
            "request_id": new.request_id,
            "request_digest": new.request_digest,
            "adapter": new.adapter,
            "task_id": new.task_id,
            "actor": new.actor,
            "domain": new.domain,
            "base_model": new.base_alias,
            "activation": new.activation,
            "continue_from": new.continue_from,
            "lora": new.lora.model_dump(mode="json"),
            "training": settled.model_dump(mode="json"),
            "samples": len(samples),
            "create_time": now_us(),
        },
        [sample.model_dump(mode="json") for sample in divided.training],
        [sample.model_dump(mode="json") for sample in divided.held_out],
        [(sample.id, content_digest(sample), divided.sides[keys_of(sample)[0]]) for sample in found.merged],
    )
    if not created:
        # Another process stored the same request between the look-up and the insert: the constraint decides.
        assert new.request_id is not None
        earlier = store.find_request(connection, new.principal, new.request_id)
        assert earlier is not None
        return same_request(earlier, new.request_digest), False
    versions.remember_sides(connection, new.adapter, divided.sides)
    job = store.find_job(connection, job_id)
    assert job is not None
    queued = {
        "position": store.queue_position(connection, job.number),
        "merged_duplicates": merged.merged_duplicates,
        "dropped_conflicts": merged.dropped_conflicts + found.conflicts,
        "merged_near_duplicates": near,
    }
    events: list[tuple[str, dict[str, Any]]] = [("queued", queued)]
    if left_out:
        events.append(("warning", _left_out(left_out)))
    job, _ = store.record(connection, job_id, job.fencing_token, job.create_time, events)
    return job, True


def _recorded(connection: Connection, new: NewJob) -> tuple[Merged, int]:
    """The recorded reviews that the request means, merged, and how many were too many. Raises Refusal if none."""
    assert isinstance(new.samples, FeedbackSource)
    selected = select_feedback(connection, new.samples, new.adapter)
    check_any(selected.samples, new.trigger)
    # Of reviews of the same pair the newest counts: that is what a history means.
    return merge(selected.samples, keep_newest=True, near=False), selected.left_out


def _nothing_to_train_on(new: NewJob, rows: int, *, before: bool) -> Violation:
    where = "feedback" if isinstance(new.samples, FeedbackSource) else "samples"
    if before:
        why = f"every one of the {rows} rows belongs to a document held out under {new.adapter} before"
    else:
        share = f"validation_fraction {new.training.validation_fraction:g}"
        why = f"{share} holds out all {rows} rows, since they are of too few documents"
    return Violation(where, f"{why}, so there is nothing to train on; send rows of other documents")


def _left_out(count: int) -> dict[str, str]:
    return {
        "reason": "OLDEST_LEFT_OUT",
        "message": f"The {count:,} oldest reviews were left out: at most {MAX_SAMPLES:,} rows and "
        f"{MAX_SAMPLE_BYTES // 2**20} MiB are trained on at a time. Narrow feedback by task, domain or time to choose "
        "others.",
    }


def _check_parent(connection: Connection, new: NewJob) -> None:
    """Raises Refusal unless `continue_from` is a version whose adapter this one can grow from."""
    if not new.continue_from:
        return
    name = parse_full_name(new.continue_from)
    if name is None or versions.find_version(connection, *name) is None:
        raise unknown_parent(new.continue_from)
    parent = whole_version(connection, name[0], new.continue_from)
    wrong: list[Violation] = []
    if parent.base_model != new.base_alias:
        wrong.append(
            Violation("continue_from", f"{new.continue_from} belongs to base {parent.base_model}, not {new.base_alias}")
        )
    if new.lora.rank < parent.lora["rank"]:
        wrong.append(Violation("lora.rank", f"may only grow: {new.continue_from} has rank {parent.lora['rank']}"))
    if new.lora.upper_half and not parent.lora.get("upper_half"):
        wrong.append(Violation("lora.upper_half", f"may only grow: {new.continue_from} adapts the lower half too"))
    missing = sorted(set(parent.lora["target_modules"]) - set(new.lora.target_modules))
    if missing:
        wrong.append(
            Violation("lora.target_modules", f"may only grow: {new.continue_from} also adapts {', '.join(missing)}")
        )
    if wrong:
        raise invalid(wrong, "CANNOT_CONTINUE")
