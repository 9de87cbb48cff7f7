"""Failpoints: what arms them, what they do, and that they cost nothing while off."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import timeit
from collections.abc import Iterator
from pathlib import Path

import pytest
from lyra_adapters_server import failpoints


@pytest.fixture(autouse=True)
def _disarm() -> Iterator[None]:
    yield
    failpoints.arm("")


def test_off_by_default_and_free() -> None:
    assert failpoints.armed() == []
    # Measured: about 40 ns a call on an old laptop's core; a transaction takes a thousand times as long.
    best = min(timeit.repeat(lambda: failpoints.hit("event.before"), number=20_000, repeat=5)) / 20_000
    assert best < 2e-6


def test_every_step_has_a_point_on_each_side() -> None:
    assert len(failpoints.NAMES) == 2 * len(failpoints.STEPS)
    for name in failpoints.NAMES:
        failpoints.arm(f"{name}=raise:ENOSPC")
        with pytest.raises(OSError, match=name) as caught:
            failpoints.hit(name)
        assert caught.value.errno == errno.ENOSPC


def test_a_timeout_after_a_step_comes_when_the_step_is_done() -> None:
    done = []
    failpoints.arm("event.after=timeout")
    with pytest.raises(TimeoutError), failpoints.step("event"):
        done.append(1)
    failpoints.arm("event.before=timeout")
    with pytest.raises(TimeoutError), failpoints.step("event"):
        done.append(2)
    assert done == [1]


def test_nth_time_only() -> None:
    failpoints.arm("event.after=raise:EIO@3")
    for _ in range(2):
        failpoints.hit("event.after")
    with pytest.raises(OSError, match=r"event\.after"):
        failpoints.hit("event.after")
    failpoints.hit("event.after")


def test_with_a_log_each_point_acts_once_even_in_another_process(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for _ in range(2):
        failpoints.arm("event.after=raise:EIO;accept.before=sleep:0", str(log))
        if not log.exists():
            with pytest.raises(OSError, match=r"event\.after"):
                failpoints.hit("event.after")
        failpoints.hit("event.after")
        failpoints.hit("accept.before")
    assert log.read_text().split() == ["event.after", "accept.before"]


def test_kill_is_sigkill() -> None:
    code = "from lyra_adapters_server import failpoints as f; f.arm('event.after=kill'); f.hit('event.after')"
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    "wrong", ["no.such.point=kill", "event.after", "event.after=explode", "event.after=raise:ENOTHING", "event=kill"]
)
def test_what_does_not_exist_is_refused(wrong: str) -> None:
    with pytest.raises(failpoints.FailpointError, match="LYRA_ADAPTERS_FAILPOINTS"):
        failpoints.arm(wrong)
    assert failpoints.armed() == []


def test_server_with_an_unknown_point_does_not_start(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lyra_adapters_server.service.main", "--home", str(tmp_path / "home")],
        env={"PATH": "/usr/bin", "PYTHONPATH": ":".join(sys.path), "LYRA_ADAPTERS_FAILPOINTS": "nowhere.after=kill"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "nowhere.after" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "home").exists()
