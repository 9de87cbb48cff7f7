"""Reads corrections and pairs from JSON Lines, with line numbers in what it says."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from lyra_adapters.cli import output
from lyra_adapters.convert import ALIASES, coerce
from lyra_adapters.errors import FieldViolation, InvalidArgument
from lyra_adapters.models import Pair, Sample
from lyra_adapters.models.base import Model

M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Rows(Generic[M]):
    """The rows of a file, the line of each, and the keys that were ignored with their counts."""

    name: str
    rows: list[M] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)

    def located(self, error: InvalidArgument) -> InvalidArgument:
        """The error with the lines of the rows that it speaks of by their places in the request."""

        def line(match: re.Match[str]) -> str:
            index = int(match[2])
            return f"{match[0]} (line {self.lines[index]})" if index < len(self.lines) else match[0]

        def located(text: str) -> str:
            return re.sub(r"\b(samples|pairs|reviews)\[(\d+)\]", line, text)

        named = located(str(error)) != str(error)
        return InvalidArgument(
            f"{self.name}: {located(error.message)}" if named else error.message,
            reason=error.reason,
            violations=tuple(FieldViolation(located(v.field), located(v.description)) for v in error.violations),
            metadata=error.metadata,
        )


def read_samples(path: Path) -> Rows[Sample]:
    """The corrections of a file; `-` is standard input."""
    return _read(path, Sample, ())


def read_pairs(path: Path) -> Rows[Pair]:
    """The pairs of a file; labels in it are no surprise."""
    known = {f.name for f in fields(Sample)} | {"label"}
    return _read(path, Pair, known)


def _read(path: Path, kind: type[M], silent: Collection[str]) -> Rows[M]:
    """Reads a file.

    Args:
        path: The file, or `-`.
        kind: What each line is.
        silent: Keys that are ignored without saying so.

    Raises:
        InvalidArgument: A line that is no such row; the message has its number.
        OSError: The file cannot be read.
    """
    name = name_of(path)
    rows = Rows[M](name)
    accepted = {f.name for f in fields(kind)} | set(ALIASES.get(kind.__name__, {}))  # type: ignore[arg-type]  # a dataclass
    for number, raw in lines_of(path):
        row = parse_line(raw, name, number)
        rows.ignored.update(key for key in row if key not in accepted and key not in silent)
        wanted = {key: value for key, value in row.items() if key in accepted}
        try:
            rows.rows.append(coerce(kind, wanted, "row"))
        except InvalidArgument as error:
            violation = error.violations[0]
            key = violation.field.removeprefix("row.")
            raise _bad(name, number, f"{key} {violation.description}") from None
        rows.lines.append(number)
    if not rows.rows:
        raise InvalidArgument(f"{name} has no rows.", reason="EMPTY_FILE")
    if rows.ignored:
        keys = ", ".join(f"{key} ({count})" for key, count in rows.ignored.most_common(10))
        output.note(f"Note: {name}: keys that mean nothing here were ignored: {keys}")
    return rows


def name_of(path: Path) -> str:
    """What to call a file in messages."""
    return "standard input" if str(path) == "-" else str(path)


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, or of standard input for `-`, that are not blank, with their numbers."""
    data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    # Split by hand: str.splitlines also splits at characters that JSON allows inside strings.
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if raw.strip():
            yield number, raw


def parse_line(raw: bytes, name: str, number: int) -> dict[str, Any]:
    """The JSON object of a line. Raises InvalidArgument."""
    try:
        row = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _bad(name, number, f"is not UTF-8 (byte {error.start + 1})") from None
    except json.JSONDecodeError as error:
        raise _bad(name, number, f"is not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise _bad(name, number, "is nested too deeply") from None
    if not isinstance(row, dict):
        raise _bad(name, number, "must be a JSON object")
    return row


def _bad(name: str, number: int, problem: str) -> InvalidArgument:
    return InvalidArgument(f"{name}, line {number}: {problem}", reason="BAD_LINE")
