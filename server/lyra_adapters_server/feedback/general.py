"""General rows: gold-labelled pairs that no model's errors chose, for the gate's anchor and against forgetting."""

from __future__ import annotations

import json
from dataclasses import dataclass
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


def shipped_rows() -> GeneralRows:
    """The rows that were written for this project: everyday and scientific prose, English and Japanese."""
    text = files("lyra_adapters_server.feedback").joinpath("general_rows.jsonl").read_text(encoding="utf-8")
    return _divided(text)


def read_rows(path: Path) -> GeneralRows:
    """Rows in JSON Lines with premise, hypothesis and correct_label (or label). Raises GeneralRowsUnusable."""
    try:
        found = _divided(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GeneralRowsUnusable(f"{path} can't be read: {error.strerror}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise GeneralRowsUnusable(f"{path}: {_where(error)}") from None
    missing = [label for label in LABELS if label not in {row.correct_label for row in found.anchor}]
    if missing:
        raise GeneralRowsUnusable(f"{path} has no row labelled {', '.join(missing)} among those that anchor the gate")
    return found


def _divided(text: str) -> GeneralRows:
    rows: list[Sample] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            fields = json.loads(line)
            label = str(fields.get("correct_label", fields.get("label", ""))).upper()
            rows.append(
                Sample(
                    id=str(fields.get("id", f"general-{number}")),
                    premise=fields.get("premise"),
                    hypothesis=fields.get("hypothesis"),
                    correct_label=label,  # type: ignore[arg-type]  # pydantic reads the word
                    group=str(fields.get("group", "")) or fields.get("premise"),
                )
            )
    documents = list(dict.fromkeys(row.group for row in rows))
    replayed = set(documents[REPLAY_EVERY - 1 :: REPLAY_EVERY])
    return GeneralRows(
        anchor=tuple(row for row in rows if row.group not in replayed),
        replay=tuple(row for row in rows if row.group in replayed),
    )


def _where(error: Exception) -> str:
    if isinstance(error, ValidationError):
        fields = ", ".join(str(item["loc"][0]) for item in error.errors(include_input=False))
        return f"a row lacks a usable {fields}"
    return "not JSON Lines with one object a line"
