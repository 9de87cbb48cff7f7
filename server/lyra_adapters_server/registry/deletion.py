"""Deletes the files of versions that are not in force; their rows stay."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from lyra_adapters_server.errors import Kind, Refusal
from lyra_adapters_server.registry.layout import Layout, put_away, sync_directory
from lyra_adapters_server.registry.names import full_name, version_of
from lyra_adapters_server.registry.pointer import unknown_adapter, unknown_version
from lyra_adapters_server.storage import formats, jobs
from lyra_adapters_server.storage import versions as store
from lyra_adapters_server.storage.database import Database, now_us
from lyra_adapters_server.storage.versions import VersionRecord, VersionState


@dataclass(frozen=True)
class Deleted:
    """The version, and whether this call deleted it."""

    version: VersionRecord
    changed: bool


async def delete_version(
    database: Database, layout: Layout, adapter: str, version: str, actor: str, reason: str
) -> Deleted:
    """Deletes a version's files: first the row says so, durably, then they go. Raises Refusal.

    A crash in between leaves files that the next start removes.
    """
    deleted = await database.write(
        lambda connection: mark(connection, adapter, version, actor, reason), "delete", last_resort=True
    )
    await database.write(lambda connection: remove_files(layout, deleted.version), "delete.files", last_resort=True)
    return deleted


def mark(connection: Connection, adapter: str, version: str, actor: str, reason: str) -> Deleted:
    """Notes in the row that the version is deleted. Raises Refusal."""
    if store.find_pointer(connection, adapter) is None:
        raise unknown_adapter(adapter)
    number = version_of(adapter, version)
    record = None if number is None else store.find_version(connection, adapter, number)
    if number is None or record is None:
        raise unknown_version(adapter, version)
    if record.state == VersionState.DELETED:
        return Deleted(record, changed=False)
    name = full_name(adapter, number)
    if record.state == VersionState.ACTIVE:
        raise Refusal(
            Kind.FAILED_PRECONDITION,
            "VERSION_IN_FORCE",
            f"{name} is in force, so it can't be deleted. Roll back or activate another version first.",
        )
    if users := [job_id for job_id in jobs.jobs_from(connection, name) if job_id != record.job_id]:
        raise _in_use(name, users, "continue from it")
    if (job := jobs.find_job(connection, record.job_id)) is not None and not job.finished:
        raise _in_use(name, [job.job_id], "still publish it")
    formats.delete_format(connection, adapter, number)
    store.mark_deleted(connection, adapter, number, now_us(), actor, reason)
    after = store.find_version(connection, adapter, number)
    assert after is not None
    return Deleted(after, changed=True)


def remove_files(layout: Layout, version: VersionRecord) -> bool:
    """Removes a deleted version's files; whether there were any. The caller holds the write lock."""
    where = (version.adapter, version.number)
    paths = (layout.flat(*where), layout.version(*where), layout.formats_of(*where))
    there = [path for path in paths if path.exists()]
    for path in there:
        put_away(layout, path)
    if there:
        sync_directory(layout.home)
    return bool(there)


def _in_use(name: str, job_ids: list[str], how: str) -> Refusal:
    return Refusal(
        Kind.FAILED_PRECONDITION,
        "VERSION_IN_USE",
        f"Jobs {how}: {', '.join(job_ids[:5])}. Delete {name} after they have ended, or cancel them.",
        metadata={"job_ids": ",".join(job_ids[:20])},
    )
