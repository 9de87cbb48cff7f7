"""Which rows a version was trained on: they can neither judge it, nor choose among what grows from it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection

from lyra_adapters_server.feedback.merge import contents_of_pair
from lyra_adapters_server.registry.names import parse_full_name
from lyra_adapters_server.storage.feedback import contents_trained_on
from lyra_adapters_server.storage.versions import lineage
from lyra_adapters_server.types import Sample


def contents_seen(connection: Connection, *names: str) -> set[str]:
    """Content (feedback/merge.py) of what versions were trained on, those they grew from included.

    Args:
        connection: To the database.
        names: Full names of versions; what is none, such as the bare base, was trained on nothing.
    """
    versions = {
        version for name in names if (parsed := parse_full_name(name)) for version in lineage(connection, *parsed)
    }
    return contents_trained_on(connection, versions)


def was_seen(row: Sample, contents: Collection[str]) -> bool:
    """Whether what was trained on these contents has seen the row's pair, under any label, as it is or turned round."""
    return bool(contents) and not contents_of_pair(row).isdisjoint(contents)


def positions_seen(rows: Sequence[Sample], contents: Collection[str]) -> frozenset[int]:
    """Positions of the rows that what was trained on these contents has seen."""
    return frozenset(index for index, row in enumerate(rows) if was_seen(row, contents))
