"""Fixtures that several kinds of tests share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def model_cache() -> Path:
    """Where the demo base is converted to, once for all test runs."""
    directory = Path(__file__).parent.parent / "build" / "test-cache"
    directory.mkdir(parents=True, exist_ok=True)
    return directory
