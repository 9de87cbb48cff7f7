"""Moves what is in force: publication, activation and rollback, as changes of a history that forgets nothing.

The history is a stack kept as a tree: each change knows the revision that one step back returns to (`parent`).
Putting a version in force pushes; stepping back pops. So stepping back twice goes two back, and never toggles.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import Connection

from lyra_adapters_server.errors import Kind, Refusal
from lyra_adapters_server.registry.names import BASE, full_name, version_of
from lyra_adapters_server.scope import Scope
from lyra_adapters_server.storage import versions as store
from lyra_adapters_server.storage.database import now_us
from lyra_adapters_server.storage.versions import ActivationRecord, PointerRecord, VersionRecord, VersionState


class ChangeKind(StrEnum):
    """Why a pointer moved (protos: PointerChangeKind)."""

    PUBLISHED = "PUBLISHED"
    ACTIVATED = "ACTIVATED"
    ROLLED_BACK = "ROLLED_BACK"


@dataclass(frozen=True)
class Asked:
    """Who asks for a change, why, and under which request id (None: none). `digest` is of the request's content."""

    principal: str
    actor: str = ""
    reason: str = ""
    request_id: str | None = None
    digest: str = ""
    job_id: str = ""


@dataclass(frozen=True)
class Moved:
    """The change, and whether it is new: False for a retry, or where the pointer was there already."""

    change: ActivationRecord
    changed: bool


def rollback(connection: Connection, adapter: str, to_version: str, expected_active: str, asked: Asked) -> Moved:
    """Steps back once (empty `to_version`), or to a version that has been in force, or to `base`. Raises Refusal."""
    if repeated := _repeated(connection, asked):
        return Moved(repeated, changed=False)
    pointer = _pointer(connection, adapter)
    _check_expected(pointer, expected_active)
    current = store.find_activation(connection, adapter, pointer.pointer_revision)
    if to_version == "":
        if current is None or pointer.active is None:
            raise Refusal(
                Kind.FAILED_PRECONDITION,
                "NOTHING_TO_ROLL_BACK",
                f"{adapter} is at the beginning of its history: the bare base model is in force already.",
            )
        target = _activation(connection, adapter, current.parent)
        while target is not None and _is_deleted(connection, adapter, target.active):
            target = _activation(connection, adapter, target.parent)
        number = target.active if target else None
        parent = target.parent if target else None
    elif to_version == BASE:
        number, parent = None, None
    else:
        number = _number(adapter, to_version)
        whole_version(connection, adapter, to_version)
        below = current
        while below is not None and below.active != number:
            below = _activation(connection, adapter, below.parent)
        if below is not None:
            parent = below.parent
        elif _has_been_in_force(connection, adapter, number):
            parent = pointer.pointer_revision
        else:
            raise Refusal(
                Kind.FAILED_PRECONDITION,
                "NEVER_IN_FORCE",
                f"{full_name(adapter, number)} has never been in force; use Activate to put it in force.",
            )
    if number == pointer.active:
        return Moved(current or _beginning(adapter), changed=False)
    return _move(connection, pointer, number, parent, ChangeKind.ROLLED_BACK, asked)


def activate(
    connection: Connection,
    adapter: str,
    version: str,
    expected_active: str,
    asked: Asked,
    *,
    allow_rejected: bool = False,
) -> Moved:
    """Puts a version in force because a person said so. Raises Refusal."""
    if repeated := _repeated(connection, asked):
        return Moved(repeated, changed=False)
    pointer = _pointer(connection, adapter)
    _check_expected(pointer, expected_active)
    record = whole_version(connection, adapter, version)
    number = record.number
    if record.state == VersionState.REJECTED and not allow_rejected:
        raise Refusal(
            Kind.FAILED_PRECONDITION,
            "VERSION_REJECTED",
            f"The gate found {full_name(adapter, number)} worse than what was in force; set allow_rejected to put it "
            "in force all the same.",
        )
    if pointer.active == number:
        current = store.find_activation(connection, adapter, pointer.pointer_revision)
        assert current is not None
        return Moved(current, changed=False)
    return _move(connection, pointer, number, _push(pointer), ChangeKind.ACTIVATED, asked)


def publish(connection: Connection, pointer: PointerRecord, number: int, asked: Asked) -> Moved:
    """Puts a job's new version in force, if the pointer still is as in `pointer`. Raises ValueError if it is not."""
    return _move(connection, pointer, number, _push(pointer), ChangeKind.PUBLISHED, asked)


def adapter_of_task(connection: Connection, task_id: str, scope: Scope) -> str:
    """The adapter in scope that a task trained. Raises Refusal if there is none, or several."""
    adapters = store.adapters_of_task(connection, task_id, scope)
    if len(adapters) == 1:
        return adapters[0]
    if adapters:
        raise Refusal(
            Kind.FAILED_PRECONDITION,
            "SEVERAL_ADAPTERS",
            f"Task {task_id!r} trained several adapters: {', '.join(adapters)}; name the one you mean.",
            metadata={"adapters": ",".join(adapters)},
        )
    why = "has published no version yet" if store.task_known(connection, task_id, scope) else "is not known"
    raise Refusal(Kind.NOT_FOUND, "TASK_NOT_FOUND", f"Task {task_id!r} {why}.")


def rolled_back_since(connection: Connection, adapter: str, time_us: int) -> ActivationRecord | None:
    """The newest rollback by hand at or after a time (microseconds), or None."""
    changes = store.history(connection, adapter, newest_first=True, limit=1000)
    return next((c for c in changes if c.kind == ChangeKind.ROLLED_BACK and c.time >= time_us), None)


def whole_version(connection: Connection, adapter: str, version: str) -> VersionRecord:
    """The version, `v3` or its full name, with its files. Raises Refusal if there is none, or its files are deleted."""
    number = version_of(adapter, version)
    record = None if number is None else store.find_version(connection, adapter, number)
    if record is None:
        raise unknown_version(adapter, version)
    if record.delete_time is not None:
        when = datetime.fromtimestamp(record.delete_time / 1e6, UTC)
        raise Refusal(
            Kind.NOT_FOUND,
            "VERSION_DELETED",
            f"The files of {full_name(adapter, record.number)} were deleted on {when:%Y-%m-%d} by "
            f"{record.delete_actor or 'somebody'}; List shows the versions that are there.",
        )
    return record


def _is_deleted(connection: Connection, adapter: str, number: int | None) -> bool:
    record = None if number is None else store.find_version(connection, adapter, number)
    return record is not None and record.delete_time is not None


def unknown_version(adapter: str, version: str) -> Refusal:
    """Refuses a version that does not exist."""
    return Refusal(
        Kind.NOT_FOUND, "VERSION_NOT_FOUND", f"{adapter} has no version {version!r}; List shows those there are."
    )


def unknown_adapter(adapter: str) -> Refusal:
    """Refuses an adapter that does not exist."""
    return Refusal(
        Kind.NOT_FOUND, "ADAPTER_NOT_FOUND", f"There is no adapter {adapter!r}; Status shows those there are."
    )


def _beginning(adapter: str) -> ActivationRecord:
    """What stands before the first change: the bare base, at revision 0."""
    return ActivationRecord(
        adapter=adapter,
        revision=0,
        active=None,
        previous=None,
        parent=None,
        kind="",
        actor="",
        reason="",
        time=0,
        job_id="",
        principal="",
        request_id=None,
        request_digest="",
    )


def _push(pointer: PointerRecord) -> int | None:
    return pointer.pointer_revision or None


def _move(
    connection: Connection,
    pointer: PointerRecord,
    number: int | None,
    parent: int | None,
    kind: ChangeKind,
    asked: Asked,
) -> Moved:
    change = ActivationRecord(
        adapter=pointer.adapter,
        revision=pointer.pointer_revision + 1,
        active=number,
        previous=pointer.active,
        parent=parent,
        kind=kind,
        actor=asked.actor,
        reason=asked.reason,
        time=now_us(),
        job_id=asked.job_id,
        principal=asked.principal,
        request_id=asked.request_id,
        request_digest=asked.digest,
    )
    store.move_pointer(connection, change)
    return Moved(change, changed=True)


def _repeated(connection: Connection, asked: Asked) -> ActivationRecord | None:
    if asked.request_id is None:
        return None
    change = store.find_activation_request(connection, asked.principal, asked.request_id)
    if change is not None and change.request_digest != asked.digest:
        raise Refusal(
            Kind.ALREADY_EXISTS,
            "REQUEST_ID_REUSED",
            f"request_id {asked.request_id} was used for another change; take a new UUID for every logical call.",
        )
    return change


def _pointer(connection: Connection, adapter: str) -> PointerRecord:
    pointer = store.find_pointer(connection, adapter)
    if pointer is None:
        raise unknown_adapter(adapter)
    return pointer


def _number(adapter: str, version: str) -> int:
    number = version_of(adapter, version)
    if number is None:
        raise unknown_version(adapter, version)
    return number


def _check_expected(pointer: PointerRecord, expected: str) -> None:
    if not expected:
        return
    active = full_name(pointer.adapter, pointer.active)
    if expected not in (active, active.removeprefix(f"{pointer.adapter}_")):
        raise Refusal(
            Kind.ABORTED,
            "ACTIVE_CHANGED",
            f"{active} is in force under {pointer.adapter}, not {expected}; nothing was changed.",
            metadata={"active": active, "pointer_revision": str(pointer.pointer_revision)},
        )


def _activation(connection: Connection, adapter: str, revision: int | None) -> ActivationRecord | None:
    return None if revision is None else store.find_activation(connection, adapter, revision)


def _has_been_in_force(connection: Connection, adapter: str, number: int) -> bool:
    record = store.find_version(connection, adapter, number)
    return record is not None and record.state == VersionState.RETIRED
