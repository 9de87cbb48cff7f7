"""The corrections that every measurement here takes, in one fixed order."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "nli"
FILES = ("scifact_train.jsonl", "checkcovid_train.jsonl")


def corrections(data: Path, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """So many rows of SciFact and Check-COVID, shuffled; more than there are begin again under new premises.

    Ends the script with a reason where the data is not there.
    """
    if not all((data / name).exists() for name in FILES):
        sys.exit(f"no data in {data}; give --data")
    rows = [json.loads(line) for name in FILES for line in (data / name).read_text(encoding="utf-8").splitlines()]
    random.Random(seed).shuffle(rows)
    fields = ("premise", "hypothesis", "label", "group")
    found = []
    for number in range(count):
        again, place = divmod(number, len(rows))
        row = {key: rows[place][key] for key in fields}
        if again:
            row["premise"] = f"({again}) {row['premise']}"
        found.append(row)
    return found


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes JSON Lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path
