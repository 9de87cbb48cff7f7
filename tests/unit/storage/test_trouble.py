"""Disks and databases that fail: callers are told what to do, and a newer registry is not touched."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from lyra_adapters.cli import main
from lyra_adapters_server import failpoints
from lyra_adapters_server.storage.database import Database
from lyra_adapters_server.storage.trouble import SchemaTooNew, StorageFailed
from sqlalchemy import text


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "registry.db")
    opened.migrate()
    yield opened
    failpoints.arm("")
    opened.close()


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("timeout", "STORAGE_TIMEOUT"),
        ("raise:ENOSPC", "DISK_FULL"),
        ("raise:EDQUOT", "DISK_FULL"),
        ("raise:EIO", "STORAGE_FAILED"),
    ],
)
def test_failures_are_unavailable_with_a_hint(database: Database, action: str, reason: str) -> None:
    failpoints.arm(f"event.before={action}")
    with pytest.raises(StorageFailed) as failed:
        database.write_now(lambda _: None, "event")
    assert (failed.value.kind, failed.value.reason) == ("UNAVAILABLE", reason)
    assert failed.value.retry_after_s
    assert "request_id" in failed.value.message


def test_timeout_after_the_write_means_the_write_is_done(database: Database) -> None:
    failpoints.arm("event.after=timeout")
    with pytest.raises(StorageFailed):
        database.write_now(lambda c: c.execute(text("CREATE TABLE done (x)")), "event")
    assert database.read_now(lambda c: c.execute(text("SELECT count(*) FROM done")).scalar()) == 0


def test_a_lock_that_another_process_holds(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    def hasty(connection: object, _record: object) -> None:
        connection.execute("PRAGMA busy_timeout=10")  # type: ignore[attr-defined] - the driver's connection

    from sqlalchemy import event

    event.listen(database._engine, "checkout", lambda connection, *_: hasty(connection, None))
    with pytest.raises(StorageFailed) as failed:
        database.write_now(lambda _: None)
    assert failed.value.reason == "STORAGE_TIMEOUT"
    other.close()


def test_a_full_database_is_a_full_disk(database: Database) -> None:
    def fill(connection: object) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count=1")  # type: ignore[attr-defined] - a Connection
        connection.exec_driver_sql("CREATE TABLE big (x)")  # type: ignore[attr-defined] - a Connection
        for _ in range(100):
            connection.exec_driver_sql("INSERT INTO big VALUES (zeroblob(100000))")  # type: ignore[attr-defined] - a Connection

    with pytest.raises(StorageFailed) as failed:
        database.write_now(fill)
    assert failed.value.reason == "DISK_FULL"


def test_mistakes_in_statements_are_no_trouble_of_the_disk(database: Database) -> None:
    from sqlalchemy.exc import OperationalError

    with pytest.raises(OperationalError):
        database.write_now(lambda c: c.execute(text("SELECT * FROM nowhere")))


def test_a_newer_registry_is_refused_in_a_sentence(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database.write_now(lambda c: c.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(SchemaTooNew, match="newer lyra-adapters"):
        database.migrate()
    assert main(["serve", "--home", str(tmp_path), "--listen", "127.0.0.1:0"]) == 2
    told = capsys.readouterr().err
    assert "newer lyra-adapters" in told
    assert "Traceback" not in told
    assert main(["doctor", "--home", str(tmp_path)]) == 2
