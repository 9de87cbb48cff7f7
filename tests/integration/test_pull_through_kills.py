"""`pull --follow` through 20 activations and rollbacks, killed in between: always a whole version, then the right one.

A thread looks all the time: whatever has a version's name must be that version, byte for byte, and so must what the
link leads to. The server is killed once, too, and comes back on its port.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from published import Registry
from server_process import ServerProcess

MOVES = 20
# Enough that kills meet downloads on their way.
WEIGHTS = 6_000_000


class Checker:
    """Looks at the directory all the time; a context manager."""

    def __init__(self, there: Path, registry: Registry) -> None:
        self._there = there
        self._registry = registry
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._right: dict[str, dict[str, str]] = {}
        self.wrong: list[str] = []
        self.looks = 0
        self.seen: set[str] = set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._look()
            time.sleep(0.01)

    def _look(self) -> None:
        try:
            names = [path.name for path in self._there.iterdir() if not path.name.startswith(".")]
            descriptor = os.open(self._there / "user_feedback", os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return
        try:
            # What the link led to at that moment, even if it is switched while we read.
            in_force = os.path.realpath(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        self.looks += 1
        self.seen.add(Path(in_force).name)
        for name in {Path(in_force).name, *names} - {"user_feedback", "user_feedback.json"}:
            found = digests(self._there / name)
            if found != self._should_be(name):
                self.wrong.append(f"{name}: {sorted(found)}")

    def _should_be(self, name: str) -> dict[str, str]:
        if name not in self._right:
            self._right[name] = digests(self._registry.layout.home / name)
        return self._right[name]

    def __enter__(self) -> Checker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)


def digests(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


def test_always_a_whole_version_and_the_right_one_at_last(
    tmp_path: Path, start_server: Callable[..., ServerProcess]
) -> None:
    registry = Registry(tmp_path / "home")
    registry.activate(registry.publish(weights=WEIGHTS))
    server = start_server()
    address = server.address
    there = tmp_path / "host"
    chance = random.Random(7)

    def start_pull() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "lyra_adapters.cli", "pull", "user_feedback", "--to", str(there)]
        return subprocess.Popen([*command, "--follow", "--server", address, "--run", "true"], stdout=subprocess.DEVNULL)

    def state() -> dict[str, object]:
        found: dict[str, object] = json.loads((there / "user_feedback.json").read_text())
        return found

    def settled(revision: int) -> bool:
        return (there / "user_feedback.json").exists() and state()["pointer_revision"] == revision

    def wait_until_settled(revision: int) -> None:
        ends = time.monotonic() + 40
        while not settled(revision):
            assert time.monotonic() < ends, state()
            time.sleep(0.05)

    pull = start_pull()
    kills = 0
    try:
        wait_until_settled(1)
        with Checker(there, registry) as checker:
            revision = 1
            for move in range(MOVES):
                if move % 3 == 2:
                    revision = registry.rollback("base" if move == 14 else "")
                else:
                    version = registry.publish(weights=WEIGHTS)
                    revision = server.client.activate("user_feedback", version).change.pointer_revision
                if move == MOVES // 2:
                    server.stop(signal.SIGKILL)
                    server = start_server("--listen", address)
                    assert server.address == address
                time.sleep(chance.uniform(0.0, 0.7))
                if move % 2:
                    pull.kill()
                    pull.wait(10)
                    kills += 1
                    pull = start_pull()
                if move % 5 == 4:
                    wait_until_settled(revision)
            # One more, which the pull that was started last must have brought: it listens to signals by now.
            wait_until_settled(revision)
            version = registry.publish(weights=WEIGHTS)
            revision = server.client.activate("user_feedback", version).change.pointer_revision
            wait_until_settled(revision)
            time.sleep(0.5)
        assert checker.wrong == []
        assert checker.looks > 20
        assert len(checker.seen) >= 4
        assert kills == MOVES // 2
        in_force = server.client.status().adapters[0]
        assert in_force.pointer_revision == revision == MOVES + 2
        assert state()["active"] == in_force.active
        assert str((there / "user_feedback").readlink()) == in_force.active
        pull.send_signal(signal.SIGTERM)
        assert pull.wait(20) == 0
        hidden = {path.name for path in there.iterdir() if path.name.startswith(".")}
        assert hidden == {".user_feedback.hooks.json"}
    finally:
        pull.kill()
        pull.wait(10)
