"""Fixtures that several kinds of tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from quick_server import COMMAND as QUICK
from server_process import ServerProcess
from tiny_base import make_tiny_base


@pytest.fixture(autouse=True)
def _own_logs() -> Iterator[None]:
    """What a test that starts a server in its own process sends logs to is closed after it."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def model_cache() -> Path:
    """Where the demo base is converted to, once for all test runs."""
    directory = Path(__file__).parent.parent / "build" / "test-cache"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local directory with a base model of two layers."""
    return make_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture
def start_server(tmp_path: Path, tiny_base: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Starts servers on the test's own home; ends them afterwards."""
    started: list[ServerProcess] = []

    def start(*flags: str, home: Path | None = None, base: str | None = None, **options: object) -> ServerProcess:
        server = ServerProcess(
            home or tmp_path / "home", base or f"tiny={tiny_base}", tmp_path / "cache", *flags, **options
        )
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def quick_server(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Starts servers that only pretend to train (quick_server.py), on the test's own home; ends them afterwards."""
    started: list[ServerProcess] = []

    def start(*flags: str, home: Path | None = None, **options: Any) -> ServerProcess:
        server = ServerProcess(home or tmp_path / "home", "none", tmp_path / "cache", *flags, command=QUICK, **options)
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Iterator[ServerProcess]:
    """One ready server for the tests of a module."""
    home = tmp_path_factory.mktemp("server")
    process = ServerProcess(home / "home", f"tiny={tiny_base}", home / "cache").wait_ready()
    yield process
    process.stop()
