"""Printing: tables and colours on a terminal, plain aligned lines elsewhere, JSON where asked for."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lyra_adapters.cli.visible import one_line, visible

console = Console(highlight=False)


def emit_json(value: Any) -> None:
    """One JSON object on one line, flushed, so that readers of a pipe see events as they come."""
    print(as_json(value), flush=True)


def as_json(value: Any) -> str:
    """The value on one line, with every control character escaped."""
    return visible(json.dumps(value, ensure_ascii=False))


def say(text: str, style: str = "") -> None:
    """A line."""
    text = visible(text)
    if console.is_terminal:
        console.print(Text(text, style=style), soft_wrap=True)
    else:
        print(text, flush=True)


def note(text: str) -> None:
    """A line that is not the result; goes to stderr."""
    print(visible(text), file=sys.stderr, flush=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> None:
    """A table. Columns whose cells are all empty are left out."""
    cells = [["" if cell is None else one_line(str(cell)) for cell in row] for row in rows]
    kept = [i for i in range(len(columns)) if not cells or any(row[i] for row in cells)]
    title = visible(title)
    columns, cells = [columns[i] for i in kept], [[row[i] for i in kept] for row in cells]
    if console.is_terminal:
        drawn = Table(*columns, title=Text(title) if title else None, title_justify="left")
        for row in cells:
            drawn.add_row(*(Text(cell) for cell in row))
        console.print(drawn)
        return
    if title:
        print(title)
    widths = [max(_width(cell) for cell in column) for column in zip(columns, *cells, strict=True)]
    for row in [list(columns), *cells]:
        print("  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)).rstrip())


def when(time: datetime | None) -> str:
    """A time in the reader's zone, to the second."""
    return "" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def size(count: int) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024  # type: ignore[assignment]  # an int at first, then a float
    return f"{count:.1f} GiB"


def _width(text: str) -> int:
    # Wide characters (Japanese) take two columns.
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
