"""Programs that take turns: each is loaded and warm, works for some seconds when told to, and waits otherwise."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


class Runner:
    """A program under the protocol of engine.py and of `peer.py --paced`."""

    def __init__(self, script: str, *arguments: str) -> None:
        """Starts it; what it says on standard error is shown if it ends before its time."""
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # it lives as long as this object
        command = [sys.executable, str(HERE / script), *arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )

    def wait(self) -> dict[str, Any]:
        """Waits for its next line.

        Raises RuntimeError if it ends instead.
        """
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise RuntimeError(f"{self._process.args} ended:\n{self._errors.read()[-3000:]}")
        found: dict[str, Any] = json.loads(line)
        return found

    def work(self, seconds: float) -> dict[str, Any]:
        """Lets it work."""
        assert self._process.stdin
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        return self.wait()

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()


def take_turns(
    programs: Mapping[str, Sequence[str]], rounds: int, seconds: float, ready: dict[str, dict[str, Any]] | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Runs programs in turns: the first, the second, …, and again, so that the machine's moods meet all alike.

    They are loaded one after the other, so that none waits for another's processors.

    Args:
        programs: By name: script and arguments.
        rounds: How often each works.
        seconds: For how long at least.
        ready: Takes what each says when it is loaded and warm.
    """
    runners: dict[str, Runner] = {}
    try:
        for name, command in programs.items():
            runners[name] = Runner(*command)
            said = runners[name].wait()
            if ready is not None:
                ready[name] = said
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in programs}
        for _ in range(rounds):
            for name, runner in runners.items():
                one = runner.work(seconds)
                found[name].append(one)
                print(f"{name}: {one['tokens'] / one['seconds']:.0f} tokens/s", file=sys.stderr, flush=True)
        return found
    finally:
        for runner in runners.values():
            runner.close()


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def shown(values: dict[str, float], form: str) -> str:
    """Median, least and most as a cell."""
    return f"{values['median']:{form}} ({values['least']:{form}} … {values['most']:{form}})"
