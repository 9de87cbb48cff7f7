"""Reads reviews from Lyra's own database while Lyra may be writing to it.

It is opened read-only and read in short pieces, each ended before anything is sent, so that neither a snapshot nor a
lock is held while a server is spoken to. Rows are taken in the order in which they were inserted: a row that is added
meanwhile comes later, or at the next import, and none comes twice.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from lyra_adapters.cli.reviews import Defaults, Found, OnBad, bad, check_columns, left_out, review_of
from lyra_adapters.models import Label

MAGIC = b"SQLite format 3\0"
# How long a writer may hold the database.
BUSY_S = 30.0
TABLE = "nli_corrections"
COLUMNS = (
    *("id", "edge_id", "task_id", "premise", "nli_hypothesis", "hypothesis", "predicted_label"),
    *("predicted_confidence", "correct_label", "corrected_at"),
)
# What reviewed edges need; Lyra marks an edge that a person looked at, and writes a correction only if it was wrong.
EDGES = ("id", "source_id", "target_id", "edge_human_corrected")


class UnreadableDatabase(Exception):
    """SQLite can't read the file; the message says why."""


class LyraDatabase:
    """Lyra's database, opened read-only; a context manager."""

    def __init__(self, path: Path, defaults: Defaults, on_bad: OnBad = None) -> None:
        self._name = str(path)
        self._defaults = defaults
        self._on_bad = on_bad
        # Reviewed edges whose texts are gone, or that carry no label.
        self.left_out = 0
        with path.open("rb"):
            pass  # SQLite's own message for a file that is not there says little
        uri = f"file:{quote(str(path.absolute()))}?mode=ro"
        with self._readable():
            self._connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)
            self._connection.row_factory = sqlite3.Row
            self._tables = {table: self._columns(table) for table in (TABLE, "edges", "fragments", "claims")}
        if not self._tables[TABLE]:
            raise bad(self._name, "", f"has no table {TABLE}; it is no database of Lyra", "MISSING_TABLE")
        found = [column for column in COLUMNS if column in self._tables[TABLE]]
        if "nli_hypothesis" in found and "hypothesis" in found:
            found.remove("hypothesis")
        self._corrections = found
        check_columns(f"{self._name}, table {TABLE}", [c for c in found if c != "edge_id"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    @property
    def has_confirmations(self) -> bool:
        """Whether the database says which edges were reviewed and found right."""
        edges, fragments, claims = (self._tables[table] for table in ("edges", "fragments", "claims"))
        return (
            set(EDGES) <= edges
            and bool({"nli_label", "relation"} & edges)
            and {"id", "text_content"} <= fragments
            and {"id", "claim_text"} <= claims
        )

    def corrections(self, size: int) -> Iterator[list[Found]]:
        """The corrections in lists of at most `size`. Raises InvalidArgument for a bad row."""
        for rows in self._pages(TABLE, self._corrections, "", size):
            groups = self._groups(row["edge_id"] for row in rows if "edge_id" in self._corrections)
            page: list[Found] = []
            for row in rows:
                fields = {key: row[key] for key in self._corrections if key != "edge_id"}
                # Ids are texts to the service, whatever they are to the database.
                fields |= {key: str(fields[key]) for key in ("id", "task_id") if fields.get(key) is not None}
                if "edge_id" in self._corrections and (group := groups.get(row["edge_id"])):
                    fields["group"] = group
                self._take(page, f"{TABLE} row {row['place']}", fields)
            yield page

    def confirmations(self, size: int) -> Iterator[list[Found]]:
        """The edges that were reviewed and not corrected, in lists of at most `size`: what the model had right."""
        edges, fragments, claims = (self._tables[table] for table in ("edges", "fragments", "claims"))
        optional = ("nli_label", "relation", "nli_edge_confidence", "nli_confidence", "edge_corrected_at")
        columns = [*EDGES, *(column for column in optional if column in edges)]
        for rows in self._pages("edges", columns, "AND edge_human_corrected = 1", size):
            corrected = self._by_key(TABLE, "edge_id", ["edge_id"], [row["id"] for row in rows])
            wanted = [(row, label) for row in rows if row["id"] not in corrected and (label := _label(row))]
            premises = self._by_key(
                "fragments",
                "id",
                ["text_content", *({"page_id"} & fragments)],
                [row["source_id"] for row, _ in wanted],
            )
            hypotheses = self._by_key(
                "claims", "id", ["claim_text", *({"task_id"} & claims)], [row["target_id"] for row, _ in wanted]
            )
            page: list[Found] = []
            for row, label in wanted:
                premise, hypothesis = premises.get(row["source_id"]), hypotheses.get(row["target_id"])
                if not premise or not hypothesis or not premise["text_content"] or not hypothesis["claim_text"]:
                    self.left_out += 1
                    continue
                fields = {
                    "id": f"edge:{row['id']}",
                    "premise": premise["text_content"],
                    "hypothesis": hypothesis["claim_text"],
                    "correct_label": label,
                    "original_label": label,
                    "original_confidence": _first(row, "nli_edge_confidence", "nli_confidence"),
                    "review_time": _first(row, "edge_corrected_at"),
                    "group": _text(_first(premise, "page_id")),
                    "task_id": _text(_first(hypothesis, "task_id")),
                }
                self._take(page, f"edges row {row['place']}", fields)
            yield page

    def _take(self, page: list[Found], place: str, fields: dict[str, Any]) -> None:
        with left_out(self._name, self._on_bad):
            page.append(Found(place, review_of(fields, self._name, place, self._defaults)))

    def _pages(self, table: str, columns: Sequence[str], where: str, size: int) -> Iterator[list[sqlite3.Row]]:
        after = -(2**63)
        # Names come from the lists above, never from the database.
        query = (
            f"SELECT rowid AS place, {', '.join(columns)} FROM {table} "  # noqa: S608
            f"WHERE rowid > ? {where} ORDER BY rowid LIMIT ?"
        )
        while True:
            with self._readable():
                # fetchall ends the statement, and with it the lock.
                rows = self._connection.execute(query, (after, size)).fetchall()
            if not rows:
                return
            yield rows
            after = rows[-1]["place"]

    def _groups(self, edge_ids: Iterable[Any]) -> dict[Any, str]:
        """The source document of each edge: the page of the fragment that it starts from."""
        if not {"id", "source_id"} <= self._tables["edges"] or not {"id", "page_id"} <= self._tables["fragments"]:
            return {}
        edges = self._by_key("edges", "id", ["source_id"], edge_ids)
        fragments = self._by_key("fragments", "id", ["page_id"], [row["source_id"] for row in edges.values()])
        return {
            edge: str(fragment["page_id"])
            for edge, row in edges.items()
            if (fragment := fragments.get(row["source_id"])) and fragment["page_id"] is not None
        }

    def _by_key(self, table: str, key: str, columns: Sequence[str], values: Iterable[Any]) -> dict[Any, sqlite3.Row]:
        """One row for each value of `key`. Looked up in lists: a join would run long where Lyra has no index."""
        if key not in self._tables[table]:
            return {}
        wanted = list({value for value in values if value is not None})
        found: dict[Any, sqlite3.Row] = {}
        for start in range(0, len(wanted), 500):
            some = wanted[start : start + 500]
            query = (
                f"SELECT {key} AS sought, {', '.join(columns)} FROM {table} "  # noqa: S608
                f"WHERE {key} IN ({', '.join('?' * len(some))})"
            )
            with self._readable():
                found.update({row["sought"]: row for row in self._connection.execute(query, some)})
        return found

    def _columns(self, table: str) -> set[str]:
        return {row["name"] for row in self._connection.execute(f"PRAGMA table_info({table})")}

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UnreadableDatabase(f"{self._name} can't be read as a SQLite database: {error}") from None


def is_database(path: Path) -> bool:
    """Whether the file begins as SQLite's do."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _label(row: sqlite3.Row) -> Label | None:
    word = _first(row, "nli_label", "relation")
    try:
        return Label(word)
    except ValueError:
        # Not every edge is a judgement: some cite.
        return None


def _first(row: sqlite3.Row, *columns: str) -> Any:
    """The first of these columns that is there and not NULL."""
    return next((row[column] for column in columns if column in row.keys() and row[column] is not None), None)  # noqa: SIM118


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
