"""What unit tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from made_registry import MadeRegistry


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[MadeRegistry]:
    """Three versions of `a`, each put in force after the other."""
    made = MadeRegistry(tmp_path / "home")
    for _ in range(3):
        made.add_version()
    yield made
    made.database.close()
