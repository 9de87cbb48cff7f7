from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from lyra_adapters_server.storage import jobs as store
from lyra_adapters_server.storage.database import Database, now_us
from lyra_adapters_server.storage.jobs import JobState, LeaseLost
from lyra_adapters_server.storage.tables import metadata


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(tmp_path / "registry.db")
    database.migrate()
    return database


def add_job(database: Database, job_id: str, request_id: str | None = None) -> bool:
    values: dict[str, Any] = {
        **dict.fromkeys(("task_id", "actor", "domain", "continue_from"), ""),
        "job_id": job_id,
        "principal": "p",
        "request_id": request_id,
        "request_digest": "d",
        "adapter": "a",
        "base_model": "tiny",
        "activation": "GATED",
        "lora": {},
        "training": {},
        "samples": 1,
        "create_time": now_us(),
    }
    return database.write_now(lambda c: store.insert_job(c, values, [], []))


def test_migrations_make_the_tables_that_the_code_expects(database: Database) -> None:
    differences = database.read_now(lambda c: compare_metadata(MigrationContext.configure(c), metadata))
    assert differences == []


def test_database_is_durable_and_private(database: Database) -> None:
    pragmas = database.read_now(
        lambda c: [c.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    )
    assert pragmas == ["wal", 2]
    assert database.path.stat().st_mode & 0o777 == 0o600


def test_request_ids_are_unique_by_constraint(database: Database) -> None:
    assert add_job(database, "1", "r")
    assert not add_job(database, "2", "r")
    assert add_job(database, "3")
    assert add_job(database, "4")
    assert database.read_now(lambda c: store.find_job(c, "2")) is None


def test_who_lost_the_lease_writes_nothing_more(database: Database) -> None:
    add_job(database, "1")
    now = now_us()
    first = database.write_now(lambda c: store.claim(c, "one", now, now + 10))
    assert first
    assert database.write_now(lambda c: store.claim(c, "two", now, now + 10)) is None
    second = database.write_now(lambda c: store.claim(c, "two", now + 20, now + 30))
    assert second
    assert (second.attempt, second.fencing_token) == (2, first.fencing_token + 1)
    with pytest.raises(LeaseLost):
        database.write_now(lambda c: store.record(c, "1", first.fencing_token, now, [("started", {})]))
    assert database.read_now(lambda c: store.events_after(c, "1", 0, 10)) == []


def test_event_and_change_share_a_transaction(database: Database) -> None:
    add_job(database, "1")
    job = database.write_now(lambda c: store.claim(c, "one", now_us(), now_us() + 10**9))
    assert job

    def crash(connection: Any) -> None:
        store.record(connection, "1", job.fencing_token, now_us(), [("started", {})], state=JobState.RUNNING)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        database.write_now(crash)
    again = database.read_now(lambda c: store.find_job(c, "1"))
    assert again
    assert (again.state, again.last_sequence) == ("QUEUED", 0)


def test_closing_event_ends_the_lease_and_nothing_follows_it(database: Database) -> None:
    add_job(database, "1")
    job = database.write_now(lambda c: store.claim(c, "one", now_us(), now_us() + 10**9))
    assert job
    token = job.fencing_token
    ended, _ = database.write_now(
        lambda c: store.record(c, "1", token, now_us(), [("failed", {})], state=JobState.FAILED)
    )
    assert ended.end_time
    assert ended.lease_owner is None
    with pytest.raises(LeaseLost):
        database.write_now(lambda c: store.record(c, "1", token, now_us(), [("progress", {})]))


def test_begun_write_completes_although_its_caller_is_cancelled(database: Database) -> None:
    async def run() -> None:
        task = asyncio.create_task(database.write(lambda c: store.insert_job(c, values, [], [])))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    values: dict[str, Any] = {
        **dict.fromkeys(("task_id", "actor", "domain", "continue_from", "request_digest", "principal"), ""),
        **dict.fromkeys(("adapter", "base_model", "activation"), "x"),
        "job_id": "1",
        "lora": {},
        "training": {},
        "samples": 1,
        "create_time": 1,
    }
    asyncio.run(run())
    database.close()
    reopened = Database(database.path)
    assert reopened.read_now(lambda c: store.find_job(c, "1"))
