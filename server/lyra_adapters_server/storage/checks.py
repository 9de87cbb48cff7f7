"""Asks the database whether it is whole, inside the caller's transaction."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from lyra_adapters_server.storage.tables import events, jobs


def damage(connection: Connection) -> list[str]:
    """What SQLite finds wrong with the file and with references between rows; empty: nothing."""
    found = [row[0] for row in connection.exec_driver_sql("PRAGMA integrity_check(20)") if row[0] != "ok"]
    for table, _, parent, *_ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        found.append(f"a row of {table} refers to a row of {parent} that is gone")
    return found


def jobs_with_gaps(connection: Connection) -> list[str]:
    """The jobs that have events, but not all from 1 to the last."""
    count, last = func.count(events.c.sequence), func.max(events.c.sequence)
    wrong = (last != jobs.c.last_sequence) | (count != jobs.c.last_sequence)
    rows = connection.execute(
        select(jobs.c.job_id).join(events, events.c.job_id == jobs.c.job_id).group_by(jobs.c.job_id).having(wrong)
    )
    return [row.job_id for row in rows]
