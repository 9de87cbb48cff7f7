"""Reviews from files: JSON Lines, CSV, and rows of any other source, under the names that Lyra and others give them."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lyra_adapters.cli import output
from lyra_adapters.cli.jsonl import lines_of, name_of, parse_line
from lyra_adapters.convert import coerce
from lyra_adapters.errors import InvalidArgument
from lyra_adapters.models import Label, Review, Sample
from lyra_adapters.models.base import Model

# Other names of a field: those of `nli_corrections` in Lyra's database, and of JSON Lines to train on.
NAMES: Mapping[str, str] = {
    "nli_hypothesis": "hypothesis",
    "label": "correct_label",
    "predicted_label": "original_label",
    "predicted_confidence": "original_confidence",
    "corrected_at": "review_time",
}
REQUIRED = ("premise", "hypothesis", "correct_label")
# The longest cell of a CSV file; the server's limit for a premise is 20,000 characters.
MAX_CELL = 10 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewRow(Model):
    """A review as a flat row: the fields of Sample, and what goes with them."""

    premise: str
    hypothesis: str
    correct_label: Label
    original_label: Label | None = None
    original_confidence: float | None = None
    id: str = ""
    group: str = ""
    task_id: str = ""
    domain: str = ""
    review_time: str = ""


# Called with what is wrong with a row that is left out; None: the first bad row ends the reading.
OnBad = Callable[[str], None] | None
FIELDS = tuple(ReviewRow.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Found:
    """A review and where it was found, for messages."""

    place: str
    review: Review


@dataclass(frozen=True, slots=True)
class Defaults:
    """What rows take that do not say it themselves; `prefix` goes before every id."""

    task_id: str = ""
    domain: str = ""
    prefix: str = ""


def read_jsonl(path: Path, defaults: Defaults, on_bad: OnBad = None) -> list[Found]:
    """The reviews of a file in JSON Lines; `-` is standard input. Raises InvalidArgument for a bad line."""
    name = name_of(path)
    ignored: Counter[str] = Counter()
    found: list[Found] = []
    empty = True
    for number, raw in lines_of(path):
        empty = False
        place = f"line {number}"
        with left_out(name, on_bad):
            row = parse_line(raw, name, number)
            ignored.update(key for key in row if NAMES.get(key, key) not in FIELDS)
            found.append(Found(place, review_of(row, name, place, defaults)))
    if empty:
        raise InvalidArgument(f"{name} has no rows.", reason="EMPTY_FILE")
    _note_ignored(name, ignored)
    return found


def read_csv(path: Path, defaults: Defaults, on_bad: OnBad = None) -> list[Found]:
    """The reviews of a CSV file with a header. Raises InvalidArgument for missing columns and bad rows."""
    name = str(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise bad(name, "", f"is not UTF-8 (byte {error.start + 1})") from None
    csv.field_size_limit(MAX_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    found: list[Found] = []
    empty = True
    try:
        header = [cell.strip() for cell in next(reader, [])]
        check_columns(name, header)
        for cells in reader:
            place = f"line {reader.line_num}"
            if not cells:
                continue
            empty = False
            with left_out(name, on_bad):
                if len(cells) != len(header):
                    raise bad(name, place, f"has {len(cells)} cells; the header has {len(header)}")
                row = _of_text(dict(zip(header, cells, strict=True)))
                found.append(Found(place, review_of(row, name, place, defaults)))
    except csv.Error as error:
        raise bad(name, f"line {reader.line_num}", f"is no CSV: {error}") from None
    if empty:
        raise InvalidArgument(f"{name} has no rows.", reason="EMPTY_FILE")
    _note_ignored(name, Counter(key for key in header if NAMES.get(key, key) not in FIELDS))
    return found


def row_of(review: Review) -> dict[str, Any]:
    """The row of a review, as `feedback import` reads it back; without what is not known."""
    row = {**review.sample.to_dict(), **review.to_dict()}
    del row["sample"]
    return {key: row[key] for key in FIELDS if row[key] not in (None, "")}


def check_columns(name: str, columns: Sequence[str]) -> None:
    """Raises InvalidArgument unless each required field has exactly one column, and no field has two."""
    fields = Counter(NAMES.get(column, column) for column in columns)
    missing = [
        "hypothesis (or nli_hypothesis)" if field == "hypothesis" else field for field in REQUIRED if not fields[field]
    ]
    if missing:
        raise bad(name, "", f"lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}", "MISSING_COLUMNS")
    twice = [field for field, count in fields.items() if count > 1 and field in FIELDS]
    if twice:
        raise bad(name, "", f"has more than one column for {', '.join(twice)}", "MISSING_COLUMNS")


def bad(name: str, place: str, problem: str, reason: str = "BAD_LINE") -> InvalidArgument:
    """The error for a place in a source."""
    return InvalidArgument(f"{name}{', ' + place if place else ''}: {problem}", reason=reason)


@contextmanager
def left_out(name: str, on_bad: OnBad) -> Iterator[None]:
    """Around what makes a row: where `on_bad` is given, a bad row is said to it instead of raised."""
    try:
        yield
    except InvalidArgument as error:
        if on_bad is None:
            raise
        on_bad(error.message.removeprefix(f"{name}, "))


def _note_ignored(name: str, ignored: Counter[str]) -> None:
    """Says which keys mean nothing here. `reason` does, to a person, but is not stored."""
    if ignored:
        keys = ", ".join(f"{key} ({count})" for key, count in ignored.most_common(10))
        output.note(f"Note: {name}: keys that mean nothing here were ignored: {keys}")


def parse_time(text: str) -> datetime:
    """A time in ISO 8601; one without a zone is UTC, as SQLite writes it. Raises ValueError."""
    time = datetime.fromisoformat(text.strip())
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def pages(found: Sequence[Found], size: int) -> Iterator[list[Found]]:
    """The reviews in lists of at most `size`."""
    for start in range(0, len(found), size):
        yield list(found[start : start + size])


def _of_text(row: Mapping[str, str]) -> dict[str, Any]:
    """A row whose cells are all texts: an empty one is not known, and the confidence is a number."""
    typed: dict[str, Any] = {key: value for key, value in row.items() if value != "" or NAMES.get(key, key) in REQUIRED}
    for key in ("original_confidence", "predicted_confidence"):
        if key in typed:
            # What is no number is left to the check of its type.
            with suppress(ValueError):
                typed[key] = float(typed[key])
    return typed


def review_of(row: Mapping[str, Any], name: str, place: str, defaults: Defaults) -> Review:
    """The review of a row. Raises InvalidArgument."""
    known = {NAMES.get(key, key): value for key, value in row.items() if value is not None}
    try:
        flat = coerce(ReviewRow, {key: value for key, value in known.items() if key in FIELDS}, "row")
    except InvalidArgument as error:
        violation = error.violations[0]
        raise bad(name, place, f"{violation.field.removeprefix('row.')} {violation.description}") from None
    time = None
    if flat.review_time:
        try:
            time = parse_time(flat.review_time)
        except ValueError:
            raise bad(name, place, "review_time is no time in ISO 8601, like 2026-01-31T12:00:00Z") from None
    sample = {key: getattr(flat, key) for key in Sample.__dataclass_fields__}
    if sample["id"]:
        sample["id"] = defaults.prefix + sample["id"]
    return Review(
        sample=Sample(**sample),
        task_id=flat.task_id or defaults.task_id,
        domain=flat.domain or defaults.domain,
        review_time=time,
    )
