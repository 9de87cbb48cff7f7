"""Reads and writes the version numbers that jobs hold whose version has no row, inside the caller's transaction.

A job keeps its number through every attempt. Once a version's files are complete, the reservation holds their digests
and what is to be written into the row, so that a directory that got its name although its row did not is recognised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from lyra_adapters_server.storage.tables import reservations
from lyra_adapters_server.storage.versions import take_number


@dataclass(frozen=True, slots=True)
class ReservationRecord:
    """A row of `reservations`. `files` (path, size, digest) and `result` are None until the files are complete."""

    adapter: str
    number: int
    job_id: str
    files: list[dict[str, Any]] | None
    result: dict[str, Any] | None


def reserve(connection: Connection, adapter: str, job_id: str) -> int:
    """The number of the job's version: the one reserved before, or the adapter's next, for good."""
    earlier = find_reservation(connection, job_id)
    if earlier is not None:
        return earlier.number
    number = take_number(connection, adapter)
    connection.execute(insert(reservations).values(adapter=adapter, number=number, job_id=job_id))
    return number


def prepare(connection: Connection, job_id: str, files: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> None:
    """Notes that the version's files are complete."""
    connection.execute(
        update(reservations).where(reservations.c.job_id == job_id).values(files=list(files), result=dict(result))
    )


def find_reservation(connection: Connection, job_id: str) -> ReservationRecord | None:
    """The job's reservation, or None."""
    row = connection.execute(select(reservations).where(reservations.c.job_id == job_id)).one_or_none()
    return ReservationRecord(**row._mapping) if row else None


def all_reservations(connection: Connection) -> list[ReservationRecord]:
    """Every number that a job holds and that is no version."""
    return [ReservationRecord(**row._mapping) for row in connection.execute(select(reservations))]


def give_up(connection: Connection, job_id: str) -> None:
    """Forgets the reservation; the number stays used."""
    connection.execute(delete(reservations).where(reservations.c.job_id == job_id))
