"""How many jobs may wait: per principal, so that one caller can't fill the queue, and in all."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from lyra_adapters_server.errors import Kind, Refusal
from lyra_adapters_server.storage import jobs as store

# A training takes minutes, so a place in the queue is free again in about that time.
RETRY_S = 15.0


@dataclass(frozen=True)
class QueueLimits:
    """The most jobs that may wait; those that run don't count."""

    total: int
    per_principal: int


def check_queue(connection: Connection, principal: str, limits: QueueLimits) -> None:
    """Raises Refusal if the queue has no place for another job of this principal. Inside the accepting transaction."""
    own, waiting = store.count_queued(connection, principal)
    if own >= limits.per_principal:
        raise _full(
            f"{own:,} of your jobs wait already, and at most {limits.per_principal:,} of one caller may",
            "max_queued_jobs_per_principal",
            limits.per_principal,
        )
    if waiting >= limits.total:
        raise _full(f"{waiting:,} jobs wait already, and at most {limits.total:,} may", "max_queued_jobs", limits.total)


def _full(what: str, setting: str, limit: int) -> Refusal:
    return Refusal(
        Kind.RESOURCE_EXHAUSTED,
        "QUEUE_FULL",
        f"{what} (setting {setting}). Nothing was created; try again when one has begun, or cancel one.",
        metadata={"setting": setting, "limit": str(limit)},
        retry_after_s=RETRY_S,
    )
