"""At start-up: mends what a crash between row and files can leave, and logs what it mended.

The row is the truth: links and pointer files follow it, and what belongs to no row and no live job goes. Safe beside
another server on the same registry: what a live job holds is left alone, and everything else happens under the
database's write lock.
"""

from __future__ import annotations

from functools import partial

import structlog
from sqlalchemy import Connection

from lyra_adapters_server.registry import deletion
from lyra_adapters_server.registry.format_files import mend_formats
from lyra_adapters_server.registry.layout import (
    ADAPTER_FILE,
    Layout,
    flat_agrees,
    link_flat,
    pointer_agrees,
    put_away,
    remove_tree,
    write_pointer,
)
from lyra_adapters_server.registry.names import full_name, parse_full_name
from lyra_adapters_server.registry.presence import forget_dead, gone
from lyra_adapters_server.scope import EVERYTHING
from lyra_adapters_server.storage import jobs
from lyra_adapters_server.storage import versions as store
from lyra_adapters_server.storage.database import Database
from lyra_adapters_server.storage.reservations import all_reservations, find_reservation, give_up
from lyra_adapters_server.storage.versions import VersionRecord, VersionState

log = structlog.get_logger()


def repair(layout: Layout, database: Database) -> int:
    """Mends the registry; returns how many things it mended. Harmless to repeat. Raises StorageFailed."""
    return sum(
        database.write_now(partial(step, layout))
        for step in (_free_jobs, _clear_staging, _discard_unfinished, _mend_versions, mend_formats, _mend_pointers)
    )


def discard(connection: Connection, layout: Layout, job_id: str) -> bool:
    """Clears what a job that ended without a version had prepared; the number stays used. Whether there was any."""
    reservation = find_reservation(connection, job_id)
    if reservation is None:
        return False
    put_away(layout, layout.flat(reservation.adapter, reservation.number))
    put_away(layout, layout.version(reservation.adapter, reservation.number))
    give_up(connection, job_id)
    return True


def expire_leases_of_the_dead(layout: Layout, connection: Connection) -> int:
    """Ends the leases of servers that are known to be dead; returns how many jobs that frees."""
    dead = [owner for owner in jobs.lease_owners(connection) if gone(layout.servers, owner)]
    return jobs.expire_leases(connection, dead) if dead else 0


def _free_jobs(layout: Layout, connection: Connection) -> int:
    count = expire_leases_of_the_dead(layout, connection)
    if count:
        log.info("mended", what="jobs of a server that died can be taken up", count=count)
    forget_dead(layout.servers)
    return count


def _clear_staging(layout: Layout, connection: Connection) -> int:
    """Removes the temporary files and directories of nobody; those of live jobs hold what the next attempt needs."""
    live = jobs.live_jobs(connection)
    leftovers = [path for path in layout.staging.iterdir() if path.name not in live]
    for leftover in leftovers:
        log.info("mended", what="a leftover in .staging is removed", path=leftover.name)
        remove_tree(leftover)
    return len(leftovers)


def _discard_unfinished(layout: Layout, connection: Connection) -> int:
    """Discards what jobs that have ended had prepared, and says what waits to be taken up."""
    count = 0
    for reservation in all_reservations(connection):
        name = full_name(reservation.adapter, reservation.number)
        job = jobs.find_job(connection, reservation.job_id)
        if job is None or job.finished:
            log.info("mended", what="a directory without a row is removed", version=name, job_id=reservation.job_id)
            discard(connection, layout, reservation.job_id)
            count += 1
        elif layout.version(reservation.adapter, reservation.number).exists():
            log.info("half_published", version=name, job_id=reservation.job_id)
    return count


def _mend_versions(layout: Layout, connection: Connection) -> int:
    """Makes missing flat names; says which versions' files are missing and which directories are nobody's."""
    count = 0
    versions, _ = store.page_of_versions(connection, scope=EVERYTHING, limit=-1)
    for version in versions:
        name = full_name(version.adapter, version.number)
        if not (layout.version(version.adapter, version.number) / ADAPTER_FILE).is_file():
            log.error("version_without_files", version=name)
        elif not flat_agrees(layout, version.adapter, version.number):
            link_flat(layout, version.adapter, version.number)
            log.info("mended", what="the flat name of a version is made again", version=name)
            count += 1
    for version in deleted_with_files(layout, connection):
        deletion.remove_files(layout, version)
        name = full_name(version.adapter, version.number)
        log.info("mended", what="the files of a deleted version are removed", version=name)
        count += 1
    for name in unknown_directories(layout, connection):
        log.warning("unknown_directory", path=name)
    return count


def _mend_pointers(layout: Layout, connection: Connection) -> int:
    count = 0
    for pointer in store.all_pointers(connection, EVERYTHING):
        if pointer.pointer_revision and not pointer_agrees(layout, pointer):
            write_pointer(layout, pointer)
            log.info(
                "mended",
                what="link and pointer file follow the row",
                adapter=pointer.adapter,
                active=full_name(pointer.adapter, pointer.active),
            )
            count += 1
    return count


def deleted_with_files(layout: Layout, connection: Connection) -> list[VersionRecord]:
    """The deleted versions whose files are still there."""
    deleted, _ = store.page_of_versions(connection, scope=EVERYTHING, states=[VersionState.DELETED], limit=-1)
    return [version for version in deleted if layout.version(version.adapter, version.number).exists()]


def unknown_directories(layout: Layout, connection: Connection) -> list[str]:
    """Directories with a version's name that have neither row nor reservation: not made here, so never removed."""
    known = {(record.adapter, record.number) for record in all_reservations(connection)}
    versions, _ = store.page_of_versions(connection, scope=EVERYTHING, states=list(VersionState), limit=-1)
    known |= {(record.adapter, record.number) for record in versions}
    return sorted(
        path.name
        for path in layout.home.iterdir()
        if path.is_dir() and not path.is_symlink() and (name := parse_full_name(path.name)) and name not in known
    )
