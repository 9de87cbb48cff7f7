"""The queue has a place for each caller, and not more than so many in all."""

from __future__ import annotations

from pathlib import Path

import pytest
from lyra_adapters_server.errors import Refusal
from lyra_adapters_server.jobs.limits import QueueLimits, check_queue
from lyra_adapters_server.storage import jobs as store
from lyra_adapters_server.storage import versions
from lyra_adapters_server.storage.database import Database


def queue_up(database: Database, principal: str, count: int) -> None:
    def work(connection):  # type: ignore[no-untyped-def]
        for _ in range(count):
            number = len(connection.exec_driver_sql("SELECT 1 FROM jobs").all())
            values = dict.fromkeys(("adapter", "task_id", "actor", "domain", "base_model", "activation"), "a")
            values |= {"continue_from": "", "lora": {}, "training": {}, "samples": 1, "create_time": 1}
            job = {"job_id": f"{principal}{number}", "principal": principal, "request_id": None, "request_digest": ""}
            assert store.insert_job(connection, {**values, **job}, [], [])

    database.write_now(work)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(tmp_path / "registry.db")
    database.migrate()
    database.write_now(lambda connection: versions.ensure_adapter(connection, "a"))
    return database


def refusal(database: Database, principal: str, limits: QueueLimits) -> str:
    try:
        database.read_now(lambda connection: check_queue(connection, principal, limits))
    except Refusal as refused:
        told = refused
    else:
        return ""
    assert told.kind == "RESOURCE_EXHAUSTED"
    assert told.retry_after_s
    return told.metadata["setting"]


def test_one_caller_cannot_take_anothers_place(database: Database) -> None:
    limits = QueueLimits(total=5, per_principal=2)
    assert refusal(database, "ada", limits) == ""
    queue_up(database, "ada", 2)
    assert refusal(database, "ada", limits) == "max_queued_jobs_per_principal"
    assert refusal(database, "bob", limits) == ""
    queue_up(database, "bob", 2)
    assert refusal(database, "eve", limits) == ""
    queue_up(database, "eve", 1)
    assert refusal(database, "eve", limits) == "max_queued_jobs"


def test_jobs_that_run_or_have_ended_take_no_place(database: Database) -> None:
    queue_up(database, "ada", 2)
    limits = QueueLimits(total=2, per_principal=2)
    database.write_now(lambda c: c.exec_driver_sql("UPDATE jobs SET state = 'RUNNING' WHERE number = 1"))
    assert refusal(database, "ada", limits) == ""
    database.write_now(lambda c: c.exec_driver_sql("UPDATE jobs SET state = 'FAILED' WHERE number = 1"))
    assert refusal(database, "ada", limits) == ""
