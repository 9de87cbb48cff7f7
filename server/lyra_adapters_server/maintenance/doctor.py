"""Examines a registry: the database, rows against files, pointers, leftovers, permissions. Reads only."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from lyra_adapters_server.registry.layout import ADAPTER_FILE, Layout, flat_agrees, pointer_agrees
from lyra_adapters_server.registry.names import full_name, is_adapter_name
from lyra_adapters_server.registry.presence import living
from lyra_adapters_server.registry.publish import wrong_files
from lyra_adapters_server.registry.repair import deleted_with_files, unknown_directories
from lyra_adapters_server.scope import EVERYTHING
from lyra_adapters_server.storage import jobs
from lyra_adapters_server.storage import versions as store
from lyra_adapters_server.storage.checks import damage, jobs_with_gaps
from lyra_adapters_server.storage.database import Database
from lyra_adapters_server.storage.formats import all_formats
from lyra_adapters_server.storage.reservations import all_reservations
from lyra_adapters_server.storage.trouble import DAMAGED, StorageFailed
from lyra_adapters_server.storage.versions import VersionRecord

# Beside a running server, what is younger may be in its hands.
YOUNG_S = 60.0
# Beside a running server, how long a difference between rows and files may last.
SETTLES_S = 2.0


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be. `reason` is a stable upper-case word."""

    reason: str
    # The file, version, job or adapter.
    what: str
    message: str
    # Whether `doctor --repair` mends it.
    mendable: bool = False


def examine(layout: Layout) -> list[Finding]:
    """What is wrong with a registry; empty: nothing. Raises SchemaTooNew, StorageFailed."""
    found = _look(layout)
    if found and living(layout.servers):
        # A running server writes its row first and its files right after: only what stays is wrong.
        time.sleep(SETTLES_S)
        still = _look(layout)
        found = [finding for finding in found if finding in still]
    return found


def _look(layout: Layout) -> list[Finding]:
    if not layout.database.is_file():
        return [Finding("NO_REGISTRY", str(layout.home), "There is no registry.db here; check --home.")]
    database = Database(layout.database, read_only=True)
    try:
        if not database.is_current():
            message = "The tables are those of an older version; the next start of the server brings them up to date."
            return [Finding("SCHEMA_BEHIND", layout.database.name, message)]
        return [*_permissions(layout), *database.read_now(lambda connection: list(_examine(layout, connection)))]
    except StorageFailed as error:
        if error.reason != DAMAGED:
            raise
        return [Finding(DAMAGED, layout.database.name, error.message)]
    finally:
        database.close()


def _examine(layout: Layout, connection: Connection) -> Iterator[Finding]:
    if damaged := damage(connection):
        # Nothing that such a database says can be relied on.
        for message in damaged:
            yield Finding(DAMAGED, layout.database.name, f"SQLite says: {message}. Restore a backup.")
        return
    for job_id in jobs_with_gaps(connection):
        yield Finding("EVENTS_MISSING", job_id, "Its stored events have a gap. Restore a backup.")
    versions, _ = store.page_of_versions(connection, scope=EVERYTHING, limit=-1)
    for version in versions:
        yield from _version(layout, version)
    yield from _formats(layout, connection)
    yield from _pointers(layout, connection)
    yield from _leftovers(layout, connection)
    yield from _orphans(layout, connection)


def _version(layout: Layout, version: VersionRecord) -> Iterator[Finding]:
    name = full_name(version.adapter, version.number)
    directory = layout.version(version.adapter, version.number)
    wrong = wrong_files(directory, version.files)
    for path in wrong:
        mendable = path == ADAPTER_FILE and saved_by_flat_name(layout, version)
        how = (
            "The flat name still has the right bytes."
            if mendable
            else "Restore it from a backup, or delete the version."
        )
        state = "missing" if not (directory / path).exists() else "not as its digest says"
        yield Finding("FILE_WRONG", f"{name}/{path}", f"The file is {state}. {how}", mendable)
    if ADAPTER_FILE not in wrong and not flat_agrees(layout, version.adapter, version.number):
        flat = layout.flat(version.adapter, version.number).name
        yield Finding("FLAT_NAME_WRONG", flat, f"This is not a hard link to the weights of {name}.", True)


def _formats(layout: Layout, connection: Connection) -> Iterator[Finding]:
    known = set()
    for record in all_formats(connection):
        directory = layout.format(record.adapter, record.number, record.form)
        known.add(directory)
        for path in wrong_files(directory, record.files):
            message = "The file is missing or not as its digest says. The form can be made again."
            yield Finding("FORMAT_WRONG", str((directory / path).relative_to(layout.home)), message, True)
    for directory in sorted(set(layout.formats.glob("*/*")) - known):
        yield Finding("ORPHAN", str(directory.relative_to(layout.home)), "No row names this form of a version.", True)


def saved_by_flat_name(layout: Layout, version: VersionRecord) -> bool:
    """Whether the flat name holds the version's weights although its directory does not."""
    flat = layout.flat(version.adapter, version.number)
    expected = [{**file, "path": flat.name} for file in version.files if file["path"] == ADAPTER_FILE]
    return bool(expected) and not wrong_files(layout.home, expected)


def _pointers(layout: Layout, connection: Connection) -> Iterator[Finding]:
    known = set()
    for pointer in store.all_pointers(connection, EVERYTHING):
        known.add(pointer.adapter)
        active = full_name(pointer.adapter, pointer.active)
        if pointer.active is not None and store.find_version(connection, pointer.adapter, pointer.active) is None:
            message = f"{active} is in force and is no version. Roll back to one that is."
            yield Finding("POINTER_TO_NOTHING", pointer.adapter, message)
        elif pointer.pointer_revision and not pointer_agrees(layout, pointer):
            message = f"Link or pointer file do not say that {active} is in force."
            yield Finding("POINTER_FILES_WRONG", pointer.adapter, message, True)
    for path in layout.home.iterdir():
        if path.is_symlink() and is_adapter_name(path.name) and path.name not in known:
            yield Finding("UNKNOWN_LINK", path.name, "No adapter has this name, so the server did not make the link.")


def _leftovers(layout: Layout, connection: Connection) -> Iterator[Finding]:
    live = jobs.live_jobs(connection)
    oldest = time.time() - YOUNG_S if living(layout.servers) else float("inf")
    for path in layout.staging.iterdir() if layout.staging.is_dir() else ():
        if path.name not in live and changed_before(path, oldest):
            yield Finding("LEFTOVER", f".staging/{path.name}", "Half-done work of nobody.", True)


def changed_before(path: Path, time_s: float) -> bool:
    """Whether a path is there and was last changed by then."""
    try:
        return path.lstat().st_mtime <= time_s
    except FileNotFoundError:
        return False


def _orphans(layout: Layout, connection: Connection) -> Iterator[Finding]:
    live = jobs.live_jobs(connection)
    for reservation in all_reservations(connection):
        directory = layout.version(reservation.adapter, reservation.number)
        if reservation.job_id not in live:
            message = f"Job {reservation.job_id} prepared it and ended without a version."
            yield Finding("ORPHAN", directory.name, message, True)
    for version in deleted_with_files(layout, connection):
        name = full_name(version.adapter, version.number)
        yield Finding("ORPHAN", name, "The version was deleted; its files are still there.", True)
    for name in unknown_directories(layout, connection):
        message = "It has a version's name and no row, and was not made here. Look at it and move it away."
        yield Finding("UNKNOWN_DIRECTORY", name, message)


def _permissions(layout: Layout) -> Iterator[Finding]:
    for path, wanted in private_paths(layout):
        try:
            found = stat.S_IMODE(path.lstat().st_mode)
        except FileNotFoundError:
            continue
        # Of a mount's root the sticky bit is nobody's business.
        if found & 0o777 & ~wanted:
            message = f"Its mode is {found:04o}; others than its owner may use it. It should be {wanted:04o}."
            yield Finding("PERMISSIONS", str(path.relative_to(layout.home.parent)), message, True)


def private_paths(layout: Layout) -> Iterator[tuple[Path, int]]:
    """Everything in the home with the mode it should have; a running server may have removed a path by now."""
    # os.walk passes over a directory that is gone by the time it is read; Path.rglob raises.
    for folder, _, files in os.walk(layout.home):
        yield Path(folder), 0o700
        for path in (Path(folder, name) for name in files):
            if not path.is_symlink():
                yield path, 0o600
