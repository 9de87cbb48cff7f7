"""Counts over the whole registry, for metrics: short queries that read no texts."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from lyra_adapters_server.storage.jobs import JobState
from lyra_adapters_server.storage.tables import activations, jobs, versions


@dataclass(frozen=True)
class Counts:
    """What the registry holds."""

    # By state, every state named.
    jobs: dict[str, int]
    # When the job that waits longest was accepted, in microseconds; None: none waits.
    oldest_queued: int | None
    versions: int
    pointer_changes: dict[str, int]


def count_all(connection: Connection) -> Counts:
    """Counts everything on one snapshot."""
    states = connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state))
    kinds = connection.execute(select(activations.c.kind, func.count()).group_by(activations.c.kind))
    oldest = select(func.min(jobs.c.create_time)).where(jobs.c.state == JobState.QUEUED)
    return Counts(
        jobs={state.value: 0 for state in JobState} | {row[0]: row[1] for row in states},
        oldest_queued=connection.execute(oldest).scalar(),
        versions=connection.execute(select(func.count()).select_from(versions)).scalar_one(),
        pointer_changes=dict.fromkeys(("PUBLISHED", "ACTIVATED", "ROLLED_BACK"), 0) | {row[0]: row[1] for row in kinds},
    )
