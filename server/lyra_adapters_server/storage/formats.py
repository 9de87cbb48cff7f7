"""Reads and writes which versions are there in which other form, inside the caller's transaction."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.sqlite import insert

from lyra_adapters_server.storage.tables import version_formats


@dataclass(frozen=True, slots=True)
class FormatRecord:
    """A row of `version_formats`: the files of a version in a form, as they were made."""

    adapter: str
    number: int
    form: str
    create_time: int
    files: list[dict[str, Any]]


def find_format(connection: Connection, adapter: str, number: int, form: str) -> FormatRecord | None:
    """The version's files in a form, or None if it was not made."""
    row = connection.execute(select(version_formats).where(*_is(adapter, number, form))).one_or_none()
    return FormatRecord(**row._mapping) if row else None


def all_formats(connection: Connection) -> list[FormatRecord]:
    """Every form of every version."""
    return [FormatRecord(**row._mapping) for row in connection.execute(select(version_formats))]


def put_format(connection: Connection, record: FormatRecord) -> None:
    """Stores that a form was made; one that was made before is replaced."""
    values = asdict(record)
    connection.execute(
        insert(version_formats)
        .values(values)
        .on_conflict_do_update(
            index_elements=["adapter", "number", "form"],
            set_={"create_time": record.create_time, "files": record.files},
        )
    )


def delete_format(connection: Connection, adapter: str, number: int, form: str = "") -> None:
    """Forgets a form of a version; without one, all of them."""
    connection.execute(delete(version_formats).where(*_is(adapter, number, form)))


def _is(adapter: str, number: int, form: str) -> tuple[Any, ...]:
    columns = version_formats.c
    version = (columns.adapter == adapter, columns.number == number)
    return (*version, columns.form == form) if form else version
