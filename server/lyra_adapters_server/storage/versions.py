"""Reads and writes adapters, versions, the pointers in force and their history, inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    case,
    exists,
    func,
    insert,
    null,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from lyra_adapters_server.scope import Scope
from lyra_adapters_server.storage.scoped import within
from lyra_adapters_server.storage.tables import (
    activations,
    adapters,
    jobs,
    splits,
    version_formats,
    version_rows,
    versions,
)


class VersionState(StrEnum):
    """Where a version stands (protos: VersionState)."""

    CANDIDATE = "CANDIDATE"
    ACTIVE = "ACTIVE"
    RETIRED = "RETIRED"
    REJECTED = "REJECTED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """A row of `versions`, with its state, which follows from the pointer, its history and the verdict."""

    adapter: str
    number: int
    publish_order: int
    job_id: str
    task_id: str
    domain: str
    actor: str
    create_time: int
    base_model: str
    base_identity: dict[str, Any]
    continued_from: str
    lora: dict[str, Any]
    metrics_before: dict[str, Any] | None
    metrics_after: dict[str, Any] | None
    verdict: dict[str, Any]
    calibration: dict[str, Any] | None
    training_samples: int
    validation_samples: int
    files: list[dict[str, Any]]
    sha256: str
    size_bytes: int
    delete_time: int | None
    delete_actor: str
    delete_reason: str
    # Other forms than PEFT's that were made, with commas between; None: none.
    formats: str | None
    state: str


@dataclass(frozen=True, slots=True)
class PointerRecord:
    """What is in force under an adapter's name; `active` None is the bare base."""

    adapter: str
    active: int | None
    pointer_revision: int
    change_time: int | None
    versions: int = 0


@dataclass(frozen=True, slots=True)
class ActivationRecord:
    """A row of `activations`: one change of a pointer."""

    adapter: str
    revision: int
    active: int | None
    previous: int | None
    parent: int | None
    kind: str
    actor: str
    reason: str
    time: int
    job_id: str
    principal: str
    request_id: str | None
    request_digest: str


_in_force = exists().where(adapters.c.name == versions.c.adapter, adapters.c.active == versions.c.number)
_was_in_force = exists().where(activations.c.adapter == versions.c.adapter, activations.c.active == versions.c.number)
_state = case(
    (versions.c.delete_time.is_not(None), VersionState.DELETED.value),
    (_in_force, VersionState.ACTIVE.value),
    (_was_in_force, VersionState.RETIRED.value),
    (versions.c.verdict["outcome"].as_string() == "VERDICT_OUTCOME_WORSE", VersionState.REJECTED.value),
    else_=VersionState.CANDIDATE.value,
)
_formats = (
    select(func.group_concat(version_formats.c.form))
    .where(version_formats.c.adapter == versions.c.adapter, version_formats.c.number == versions.c.number)
    .scalar_subquery()
)
_versions = select(versions, _formats.label("formats"), _state.label("state"))


def find_version(connection: Connection, adapter: str, number: int) -> VersionRecord | None:
    """The version, or None."""
    row = connection.execute(_versions.where(versions.c.adapter == adapter, versions.c.number == number)).one_or_none()
    return VersionRecord(**row._mapping) if row else None


def version_of_job(connection: Connection, job_id: str) -> VersionRecord | None:
    """The version that a job published, or None."""
    row = connection.execute(_versions.where(versions.c.job_id == job_id)).one_or_none()
    return VersionRecord(**row._mapping) if row else None


def page_of_versions(
    connection: Connection,
    *,
    scope: Scope,
    adapter: str = "",
    task_id: str = "",
    states: Sequence[str] = (),
    before: int | None = None,
    limit: int,
) -> tuple[list[VersionRecord], int]:
    """Up to `limit` versions published before order `before`, newest first, and how many match in all.

    Without `states`: in any but DELETED.
    """
    where: list[ColumnElement[bool]] = [within(versions.c.adapter, scope)]
    if adapter:
        where.append(versions.c.adapter == adapter)
    if task_id:
        where.append(versions.c.task_id == task_id)
    where.append(_state.in_(states) if states else versions.c.delete_time.is_(None))
    total = connection.execute(select(func.count()).select_from(versions).where(*where)).scalar_one()
    if before is not None:
        where.append(versions.c.publish_order < before)
    rows = connection.execute(_versions.where(*where).order_by(versions.c.publish_order.desc()).limit(limit))
    return [VersionRecord(**row._mapping) for row in rows], total


def lineage(connection: Connection, adapter: str, number: int) -> list[tuple[str, int]]:
    """The version and those it grew from, nearest first, as adapter and number."""
    found: list[tuple[str, int]] = []
    version = find_version(connection, adapter, number)
    while version is not None:
        found.append((version.adapter, version.number))
        parent, _, digits = version.continued_from.rpartition("_v")
        version = find_version(connection, parent, int(digits)) if parent else None
    return found


def take_number(connection: Connection, adapter: str) -> int:
    """Takes the next version number of an adapter, for good."""
    ensure_adapter(connection, adapter)
    return int(
        connection.execute(
            update(adapters)
            .where(adapters.c.name == adapter)
            .values(next_version=adapters.c.next_version + 1)
            .returning(type_coerce(adapters.c.next_version - 1, Integer))
        ).scalar_one()
    )


def insert_version(connection: Connection, values: Mapping[str, Any]) -> None:
    """Inserts a version's row. IntegrityError if its job has published already."""
    order = connection.execute(select(func.coalesce(func.max(versions.c.publish_order), 0) + 1)).scalar_one()
    # JSON columns write None as JSON's null; the absence of scores is SQL's NULL.
    values = {key: null() if value is None else value for key, value in values.items()}
    connection.execute(insert(versions).values(publish_order=order, **values))


def mark_deleted(connection: Connection, adapter: str, number: int, time: int, actor: str, reason: str) -> None:
    """Notes that a version's files are to go. It must not be in force."""
    connection.execute(
        update(versions)
        .where(versions.c.adapter == adapter, versions.c.number == number)
        .values(delete_time=time, delete_actor=actor, delete_reason=reason)
    )


def remember_rows(connection: Connection, adapter: str, number: int, rows: Mapping[str, Any]) -> None:
    """Stores how a version did on each row that its gate asked about."""
    connection.execute(insert(version_rows).values(adapter=adapter, number=number, rows=dict(rows)))


def version_row_scores(connection: Connection, adapter: str, number: int) -> dict[str, Any] | None:
    """What remember_rows stored; None for a version that was published before there was such a record."""
    where = (version_rows.c.adapter == adapter, version_rows.c.number == number)
    row = connection.execute(select(version_rows.c.rows).where(*where)).one_or_none()
    return dict(row.rows) if row else None


def ensure_adapter(connection: Connection, adapter: str) -> None:
    """Inserts the adapter with nothing in force, unless it is there."""
    connection.execute(
        sqlite_insert(adapters).values(name=adapter, next_version=1, pointer_revision=0).on_conflict_do_nothing()
    )


def find_pointer(connection: Connection, adapter: str) -> PointerRecord | None:
    """What is in force under the name, or None if the name is unknown."""
    return next(iter(_pointers(connection, adapters.c.name == adapter)), None)


def all_pointers(connection: Connection, scope: Scope) -> list[PointerRecord]:
    """What is in force under every name in scope."""
    return _pointers(connection, within(adapters.c.name, scope))


def _pointers(connection: Connection, *where: ColumnElement[bool]) -> list[PointerRecord]:
    there = (versions.c.adapter == adapters.c.name) & versions.c.delete_time.is_(None)
    count = select(func.count()).select_from(versions).where(there).scalar_subquery()
    rows = connection.execute(
        select(
            adapters.c.name.label("adapter"),
            adapters.c.active,
            adapters.c.pointer_revision,
            adapters.c.change_time,
            count.label("versions"),
        )
        .where(*where)
        .order_by(adapters.c.name)
    )
    return [PointerRecord(**row._mapping) for row in rows]


def move_pointer(connection: Connection, change: ActivationRecord) -> None:
    """Moves the pointer and stores the change.

    A compare-and-swap: raises ValueError, and the transaction must not be committed, unless the pointer stands at the
    revision before `change.revision`.
    """
    moved = connection.execute(
        update(adapters)
        .where(adapters.c.name == change.adapter, adapters.c.pointer_revision == change.revision - 1)
        .values(active=change.active, pointer_revision=change.revision, change_time=change.time)
    )
    if moved.rowcount != 1:
        raise ValueError(f"the pointer of {change.adapter} is not at revision {change.revision - 1}")
    connection.execute(insert(activations).values(asdict(change)))


def find_activation(connection: Connection, adapter: str, revision: int) -> ActivationRecord | None:
    """The change that made this revision, or None."""
    row = connection.execute(
        select(activations).where(activations.c.adapter == adapter, activations.c.revision == revision)
    ).one_or_none()
    return ActivationRecord(**row._mapping) if row else None


def find_activation_request(connection: Connection, principal: str, request_id: str) -> ActivationRecord | None:
    """The change that this principal's request made, or None."""
    row = connection.execute(
        select(activations).where(activations.c.principal == principal, activations.c.request_id == request_id)
    ).one_or_none()
    return ActivationRecord(**row._mapping) if row else None


def history(
    connection: Connection, adapter: str, *, after: int = 0, newest_first: bool = False, limit: int
) -> list[ActivationRecord]:
    """Up to `limit` changes of a pointer after a revision."""
    order = activations.c.revision.desc() if newest_first else activations.c.revision
    rows = connection.execute(
        select(activations)
        .where(activations.c.adapter == adapter, activations.c.revision > after)
        .order_by(order)
        .limit(limit)
    )
    return [ActivationRecord(**row._mapping) for row in rows]


def adapters_of_task(connection: Connection, task_id: str, scope: Scope) -> list[str]:
    """The adapters in scope that a task's jobs published versions of."""
    mine = within(versions.c.adapter, scope)
    rows = connection.execute(select(versions.c.adapter).distinct().where(versions.c.task_id == task_id, mine))
    return sorted(row.adapter for row in rows)


def task_known(connection: Connection, task_id: str, scope: Scope) -> bool:
    """Whether any job in scope belongs to the task."""
    mine = within(jobs.c.adapter, scope)
    return bool(connection.execute(select(exists().where(jobs.c.task_id == task_id, mine))).scalar())


def known_sides(connection: Connection, adapter: str, keys: Iterable[str]) -> dict[str, bool]:
    """For each key seen before under the adapter: whether it is held out."""
    found: dict[str, bool] = {}
    wanted = sorted(set(keys))
    for start in range(0, len(wanted), 500):
        rows = connection.execute(
            select(splits.c.key, splits.c.held_out).where(
                splits.c.adapter == adapter, splits.c.key.in_(wanted[start : start + 500])
            )
        )
        found.update({row.key: row.held_out for row in rows})
    return found


def remember_sides(connection: Connection, adapter: str, sides: Mapping[str, bool]) -> None:
    """Stores on which side keys stand. What was held out once stays held out, and is when a row ties it to what is."""
    if sides:
        new = sqlite_insert(splits)
        connection.execute(
            new.on_conflict_do_update(
                index_elements=[splits.c.adapter, splits.c.key],
                set_={"held_out": or_(splits.c.held_out, new.excluded.held_out)},
            ),
            [{"adapter": adapter, "key": key, "held_out": held_out} for key, held_out in sides.items()],
        )
