"""Opens the registry's database and runs transactions on threads, so that the event loop never waits for a disk."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event

from lyra_adapters_server import failpoints
from lyra_adapters_server.storage.memo import Memo
from lyra_adapters_server.storage.reserve import RESERVE_FILE, Reserve
from lyra_adapters_server.storage.tail import Wakers
from lyra_adapters_server.storage.trouble import DISK_FULL, SchemaTooNew, StorageFailed, storage_trouble

T = TypeVar("T")

log = structlog.get_logger()

BUSY_TIMEOUT_S = 10


class Database:
    """The SQLite database of a registry.

    Journal WAL, so that readers and the writer don't wait for each other; synchronous FULL, so that what was
    acknowledged survives power loss.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        # Streams of rows wait here for new ones.
        self.wakers = Wakers()
        # What may have to be written on a full disk gives it up; what is begun holds it.
        self.reserve = Reserve(path.with_name(RESERVE_FILE))
        if not read_only and not path.exists():
            # SQLite gives its WAL and shared-memory files the permissions of the main file.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            _sync_directory(path.parent)
        self._engine = create_engine(f"sqlite:///{path}", pool_size=8, max_overflow=0)
        event.listen(self._engine, "connect", _prepare_reading if read_only else _prepare)
        event.listen(self._engine, "begin", _begin)
        # One writer: transactions queue here instead of failing on SQLite's lock.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="db-write")
        self._readers = ThreadPoolExecutor(4, thread_name_prefix="db-read")
        self._memo = Memo(path)

    def migrate(self) -> None:
        """Brings the schema to the newest version. Raises SchemaTooNew, StorageFailed."""
        self.is_current()
        config = _migrations()
        with storage_trouble(), self._engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()

    def is_current(self) -> bool:
        """Whether the schema is the newest that this program knows. Raises SchemaTooNew, StorageFailed."""
        script = ScriptDirectory.from_config(_migrations())
        known = {revision.revision for revision in script.walk_revisions()}
        with storage_trouble(), self._engine.connect() as connection:
            heads = set(MigrationContext.configure(connection).get_current_heads())
        if newer := heads - known:
            raise SchemaTooNew(
                f"{self.path} was written by a newer lyra-adapters (its tables are at {', '.join(newer)}, this one "
                f"knows {max(known)} at most). Install that version or a later one, or restore a backup that was made "
                "before the upgrade."
            )
        return heads == set(script.get_heads())

    def write_now(self, work: Callable[[Connection], T], step: str = "", *, last_resort: bool = False) -> T:
        """Runs `work` in one durable transaction on this thread. Raises StorageFailed.

        `step` names the failpoints before the transaction and after its commit; a timeout there is that of a storage
        which has done the write and does not say so. With `last_resort` the reserve is given up on a full disk.
        """
        try:
            return self._transact(work, step)
        except StorageFailed as error:
            if not (last_resort and error.reason == DISK_FULL and self.reserve.release()):
                raise
            log.warning("reserve_given_up", step=step, message=error.message)
        return self._transact(work, step)

    def _transact(self, work: Callable[[Connection], T], step: str) -> T:
        with (
            storage_trouble(),
            failpoints.step(step),
            self._engine.connect().execution_options(immediate=True) as connection,
            connection.begin(),
        ):
            return work(connection)

    def read_now(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` on one consistent snapshot on this thread. Raises StorageFailed."""
        with storage_trouble(), self._engine.connect() as connection, connection.begin():
            return work(connection)

    async def write(self, work: Callable[[Connection], T], step: str = "", *, last_resort: bool = False) -> T:
        """As write_now, awaited. Once begun it completes, even if the awaiting call is cancelled."""
        call = partial(self.write_now, work, step, last_resort=last_resort)
        return await asyncio.get_running_loop().run_in_executor(self._writer, call)

    async def empty_log(self) -> bool:
        """Moves the write-ahead log into the database file and cuts it to nothing; False while readers hold it."""

        def empty() -> bool:
            with storage_trouble(), self._engine.connect() as connection:
                driver = connection.connection.driver_connection
                assert driver is not None
                busy: int = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                return not busy

        return await asyncio.get_running_loop().run_in_executor(self._writer, empty)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """As read_now, awaited."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.read_now, work)

    async def read_kept(self, key: Hashable, work: Callable[[Connection], T]) -> T:
        """As read, but what was read under the same key serves again until somebody commits. Nobody may change it."""
        version = self._memo.version()
        kept: T | None = self._memo.find(key, version)
        if kept is not None:
            return kept
        answer = await self.read(work)
        self._memo.keep(key, version, answer)
        return answer

    def close(self) -> None:
        """Waits for running transactions and closes every connection."""
        self._memo.close()
        self._writer.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        self._engine.dispose()


def now_us() -> int:
    """The time as stored: microseconds since the epoch."""
    return time.time_ns() // 1000


def _sync_directory(directory: Path) -> None:
    """Waits until a directory's entries are on disk; SQLite does so for the files that it makes itself."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _migrations() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _prepare_reading(dbapi_connection: Any, _record: Any) -> None:
    dbapi_connection.isolation_level = None
    dbapi_connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_S * 1000}")
    dbapi_connection.execute("PRAGMA query_only=ON")


def _prepare(dbapi_connection: Any, _record: Any) -> None:
    # None: the driver begins no transactions of its own, so that _begin decides.
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        # What is deleted is overwritten: texts of users must be gone from the file too.
        "secure_delete=ON",
        f"busy_timeout={BUSY_TIMEOUT_S * 1000}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    # IMMEDIATE takes the write lock at the start; a deferred one could fail when it is upgraded later.
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
