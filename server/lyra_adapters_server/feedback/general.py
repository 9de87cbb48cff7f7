"""General rows: gold-labelled pairs that no model's errors chose, for the gate's anchor and against forgetting."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from lyra_adapters_server.types import LABELS, Sample

# Of every so many documents one is for replay; the others anchor the gate. No document serves both.
REPLAY_EVERY = 3


class GeneralRowsUnusable(Exception):
    """A file of general rows can't be used; the message says why."""


@dataclass(frozen=True)
class GeneralRows:
    """The rows that the gate asks about, and those that may be trained on. Neither is ever used as the other."""

    anchor: tuple[Sample, ...]
    replay: tuple[Sample, ...]

    @cached_property
    def anchor_digest(self) -> str:
        """Of the rows that the gate asks about: what scores for them belong to."""
        return hashlib.sha256("".join(row.model_dump_json() for row in self.anchor).encode()).hexdigest()


def shipped_rows() -> GeneralRows:
    """The rows that were written for this project: everyday and scientific prose, English and Japanese."""
    rows = _rows(files("lyra_adapters_server.feedback").joinpath("general_rows.jsonl").read_text(encoding="utf-8"))
    documents = list(dict.fromkeys(row.group for row in rows))
    return _divided(rows, set(documents[REPLAY_EVERY - 1 :: REPLAY_EVERY]))


def read_rows(path: Path, fewest: int) -> GeneralRows:
    """Rows in JSON Lines with premise, hypothesis and correct_label (or label).

    Args:
        path: The file.
        fewest: How many rows must be left to anchor the gate.

    Raises:
        GeneralRowsUnusable: If a line can't be read, an id comes twice, or too few rows or labels are there.
    """
    try:
        rows = _rows(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GeneralRowsUnusable(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise GeneralRowsUnusable(f"{path} is not UTF-8") from None
    except GeneralRowsUnusable as error:
        raise GeneralRowsUnusable(f"{path}: {error}") from None
    # By a hash: rows that are added, or another order, move no document from what is trained on to the gate.
    found = _divided(rows, {row.group for row in rows if _hash(row.group) % REPLAY_EVERY == 0})
    if missing := _missing_labels(rows):
        raise GeneralRowsUnusable(f"{path} has no row labelled {missing}")
    if len(found.anchor) < fewest:
        raise GeneralRowsUnusable(
            f"{path} has {len(rows)} rows, of which {len(found.anchor)} anchor the gate (those of two documents in "
            f"three); at least {fewest} must"
        )
    if missing := _missing_labels(found.anchor):
        raise GeneralRowsUnusable(f"{path} has no row labelled {missing} among those that anchor the gate")
    return found


def _rows(text: str) -> list[Sample]:
    rows: dict[str, Sample] = {}
    places: dict[str, int] = {}
    # Not splitlines: it also divides at characters that may stand inside a text.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = _row(line)
        except ValidationError as error:
            fields = ", ".join(str(item["loc"][0]) for item in error.errors(include_input=False))
            raise GeneralRowsUnusable(f"line {number} lacks a usable {fields}") from None
        except (ValueError, TypeError, AttributeError):
            raise GeneralRowsUnusable(f"line {number} is no JSON object; JSON Lines has one a line") from None
        if rows.get(row.id) == row:
            continue
        if row.id in rows:
            raise GeneralRowsUnusable(f"line {number} has the id of line {places[row.id]}; each row needs its own")
        rows[row.id], places[row.id] = row, number
    return list(rows.values())


def _row(line: str) -> Sample:
    fields = json.loads(line)
    label = str(fields.get("correct_label", fields.get("label", ""))).upper()
    premise, hypothesis = str(fields.get("premise")), str(fields.get("hypothesis"))
    return Sample(
        # Of what it says: another line above it must not make it another row.
        id=str(fields.get("id", f"general-{_hash(premise + hypothesis + label):064x}"[:24])),
        premise=fields.get("premise"),
        hypothesis=fields.get("hypothesis"),
        correct_label=label,  # type: ignore[arg-type]  # pydantic reads the word
        group=str(fields.get("group", "")) or fields.get("premise"),
    )


def _divided(rows: Sequence[Sample], replayed: Collection[str]) -> GeneralRows:
    return GeneralRows(
        anchor=tuple(row for row in rows if row.group not in replayed),
        replay=tuple(row for row in rows if row.group in replayed),
    )


def _missing_labels(rows: Sequence[Sample]) -> str:
    there = {row.correct_label for row in rows}
    return ", ".join(label for label in LABELS if label not in there)


def _hash(document: str) -> int:
    return int(hashlib.sha256(document.encode()).hexdigest(), 16)
