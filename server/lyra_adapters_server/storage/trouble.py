"""What callers are told when the disk or the database does not answer as it should."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DatabaseError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from lyra_adapters_server.errors import Kind, Refusal

FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})
DISK_FULL = "DISK_FULL"
# Conditions of the machine, by the beginning of SQLite's name for them. Every other error is a mistake in a statement.
DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
DAMAGED = "DATABASE_DAMAGED"
PASSING = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_NOMEM")


class SchemaTooNew(Exception):
    """A newer server has changed the registry's tables; the message says what to do."""


class StorageFailed(Refusal):
    """Storage failed or did not answer in time: whether the change was made is not known."""


@contextmanager
def storage_trouble() -> Iterator[None]:
    """Turns what a disk or a database raises into StorageFailed, which callers are told as UNAVAILABLE."""
    try:
        yield
    except (OSError, DatabaseError, PoolTimeout) as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        raise refusal from error


def disk_full() -> StorageFailed:
    """What callers are told when the disk has no space left."""
    return StorageFailed(
        Kind.UNAVAILABLE,
        DISK_FULL,
        "The disk that holds the registry is full. Free space there or delete versions, then try again with the same "
        "request_id.",
        retry_after_s=30.0,
    )


def _refusal(error: Exception) -> StorageFailed | None:
    name = ""
    if isinstance(error, DatabaseError):
        name = getattr(error.orig, "sqlite_errorname", "") if isinstance(error.orig, sqlite3.Error) else ""
        if name.startswith(DAMAGE):
            return StorageFailed(Kind.UNAVAILABLE, DAMAGED, "The registry's database is damaged. Restore a backup.")
        if name != "SQLITE_FULL" and not name.startswith(PASSING):
            return None
    if name == "SQLITE_FULL" or getattr(error, "errno", None) in FULL_DISK:
        return disk_full()
    if isinstance(error, (TimeoutError, PoolTimeout)) or name.startswith("SQLITE_BUSY"):
        return StorageFailed(
            Kind.UNAVAILABLE,
            "STORAGE_TIMEOUT",
            "The registry's storage did not answer in time, so it is not known whether the change was made. Try again "
            "with the same request_id: what was done already is found, not done twice.",
            retry_after_s=1.0,
        )
    return StorageFailed(
        Kind.UNAVAILABLE,
        "STORAGE_FAILED",
        "The registry's storage failed; the server's log and `lyra-adapters doctor` say more. Try again with the same "
        "request_id.",
        retry_after_s=5.0,
    )
