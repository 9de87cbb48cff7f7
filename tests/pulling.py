"""`lyra-adapters pull` in tests: run once, or followed in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lyra_adapters import PointerChangeKind
from lyra_adapters.cli import main
from lyra_adapters.testing import FakeAdapterServer

NAMES = [f"user_feedback_v{number}" for number in (1, 2, 3, 4)]


def activate(fake: FakeAdapterServer, version: str) -> None:
    fake.pointers.move("user_feedback", f"user_feedback_{version}", PointerChangeKind.ACTIVATED)


def rollback(fake: FakeAdapterServer, to: str = "") -> None:
    fake.pointers.back("user_feedback", to, actor="", reason="", expected="")


def pull(there: Path, *options: str) -> int:
    return main(["pull", "user_feedback", "--to", str(there), *options])


def state(there: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((there / "user_feedback.json").read_text())
    return found


def check(there: Path, fake: FakeAdapterServer, name: str) -> None:
    """The directory says that `name` is in force, and has it whole."""
    link = there / "user_feedback"
    assert state(there)["active"] == name
    if name == "base":
        assert not os.path.lexists(link)
        return
    assert str(link.readlink()) == name
    assert {path.name: path.read_bytes() for path in link.iterdir()} == fake.files[name]


def until(true: Callable[[], Any], seconds: float = 60.0) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.02)


class Following:
    """`pull --follow` in a process of its own; a context manager."""

    def __init__(
        self, there: Path, *options: str, environment: dict[str, str] | None = None, before: tuple[str, ...] = ()
    ) -> None:
        self._out = there.parent / "following.out"
        command = [*before, sys.executable, "-m", "lyra_adapters.cli", "pull", "user_feedback", "--to", str(there)]
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, "--follow", "--json", *options], stdout=out, env={**os.environ, **(environment or {})}
            )

    def reports(self, what: str = "") -> list[dict[str, Any]]:
        """What it has told so far."""
        text = self._out.read_text()
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in lines if what in ("", line["what"])]

    def wait_for(self, what: str, **details: Any) -> None:
        """Until it has told this."""
        until(lambda: any(details.items() <= report.items() for report in self.reports(what)))

    def __enter__(self) -> Following:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.process.kill()
            self.process.wait(20)
            return
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0
