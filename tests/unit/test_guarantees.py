"""docs/guarantees.md names tests; each of them exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guarantees.md"


def test_every_test_that_is_named_exists() -> None:
    defined = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    page = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) > 20
    assert named - defined == set()
    assert [path for path in re.findall(r"`(tests/[\w/.]+\.py)`", page) if not (ROOT / path).is_file()] == []


def test_every_promise_names_a_test() -> None:
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    promises = [row for row in rows if row[0] not in ("promise", "acknowledged")]
    bare = [
        promise for promise, held in promises if "test" not in held and "synced" not in held and "commit" not in held
    ]
    assert bare == []
