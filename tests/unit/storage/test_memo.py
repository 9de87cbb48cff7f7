"""What was read serves again until somebody commits, whoever that is."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from lyra_adapters_server.storage.database import Database
from lyra_adapters_server.storage.memo import KEPT
from sqlalchemy import Connection


def test_reads_once_between_commits(tmp_path: Path) -> None:
    database = Database(tmp_path / "registry.db")
    database.write_now(lambda c: c.exec_driver_sql("CREATE TABLE t (n INTEGER)"))
    reads = []

    def count(connection: Connection) -> list[int]:
        reads.append(1)
        return [connection.exec_driver_sql("SELECT count(*) FROM t").scalar_one()]

    async def run() -> None:
        assert [await database.read_kept("count", count) for _ in range(3)] == [[0]] * 3
        assert len(reads) == 1
        await database.write(lambda c: c.exec_driver_sql("INSERT INTO t VALUES (1)"))
        assert [await database.read_kept("count", count) for _ in range(3)] == [[1]] * 3
        assert len(reads) == 2
        # Another process, as it were.
        other = sqlite3.connect(tmp_path / "registry.db")
        other.execute("INSERT INTO t VALUES (2)")
        other.commit()
        assert await database.read_kept("count", count) == [2]
        other.close()
        # A key of its own has an answer of its own.
        assert await database.read_kept("other", lambda _: ["x"]) == ["x"]

    asyncio.run(run())
    database.close()


def test_only_so_many_answers_are_kept(tmp_path: Path) -> None:
    database = Database(tmp_path / "registry.db")
    database.write_now(lambda c: c.exec_driver_sql("CREATE TABLE t (n INTEGER)"))

    async def run() -> None:
        for number in range(3 * KEPT):
            assert await database.read_kept(number, lambda _, n=number: [n]) == [number]

    asyncio.run(run())
    assert len(database._memo._answers) == KEPT
    database.close()
