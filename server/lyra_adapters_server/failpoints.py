"""Named failpoints: places where a test can kill the process, fill the disk, or lose an answer. Off by default.

`LYRA_ADAPTERS_FAILPOINTS="publish.rename.before=kill;event.after=raise:ENOSPC@3"` arms them, for the server and its
worker. Every durable step has a point before and one after it; an action at `.after` happens when the step is done.

| action | does |
|---|---|
| `kill` | SIGKILL to the own process |
| `raise:ENOSPC` | raises OSError with that errno |
| `timeout` | raises TimeoutError: at `.after`, the write is done but nobody hears of it |
| `sleep:SECONDS` | goes on later |
| `hang` | never goes on |

`@3` acts at the third time only; without it, every time. With `LYRA_ADAPTERS_FAILPOINTS_LOG=FILE` each armed point acts
once and writes its name there, so that it does not act again in the process that is started instead, and a test can
see that it did act.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "LYRA_ADAPTERS_FAILPOINTS"
LOG_VARIABLE = "LYRA_ADAPTERS_FAILPOINTS_LOG"

# Every durable step, by what it makes durable. Each has the points NAME.before and NAME.after.
STEPS: dict[str, str] = {
    "accept": "the transaction that stores a job (server)",
    "acknowledge": "the first event of a job goes to its caller (server)",
    "lease.claim": "the transaction that takes a job (server)",
    "lease.renew": "the transaction that prolongs a lease (server)",
    "lease.release": "the transaction that gives a job back (server)",
    "event": "the transaction that appends a job's events (server)",
    "checkpoint.write": "a checkpoint's files in its temporary directory (worker)",
    "checkpoint.rename": "a checkpoint gets its name (worker)",
    "adapter.write": "the trained adapter's files in the job's work directory (worker)",
    "format.write": "a version's files in another form, in their temporary directory (worker)",
    "format.rename": "the directory of a form gets its name (server)",
    "format.commit": "the transaction that places a form's files and stores their digests (server)",
    "publish.reserve": "the transaction that reserves a version number (server)",
    "publish.write": "a version's files in their temporary directory (server)",
    "publish.prepare": "the transaction that stores the digests of a version's files (server)",
    "publish.rename": "a version's directory gets its name (server)",
    "publish.commit": "the transaction of a version's row and the pointer (server)",
    "fsync.file": "a file's content reaches the disk (server)",
    "fsync.directory": "a directory's entries reach the disk (server)",
    "link.flat": "the flat name, a hard link (server)",
    "link.pointer": "the link to the version in force (server)",
    "link.file": "the pointer in words (server)",
    "rollback": "the transaction that moves a pointer back (server)",
    "activate": "the transaction that puts a version in force (server)",
    "cancel": "the transaction that stores a cancellation (server)",
    "feedback": "the transaction that records reviews (server)",
    "feedback.delete": "the transaction that deletes texts (server)",
    "delete": "the transaction that marks a version as deleted (server)",
    "delete.files": "the files of a deleted version go (server)",
}
NAMES: tuple[str, ...] = tuple(f"{step}.{side}" for step in STEPS for side in ("before", "after"))

_ENTRY = re.compile(
    r"(?P<name>[a-z.]+)=(?P<action>kill|hang|timeout|raise:(?P<errno>E[A-Z0-9]+)|sleep:(?P<seconds>[0-9.]+))"
    r"(@(?P<nth>[1-9][0-9]*))?"
)


class FailpointError(ValueError):
    """The variable names a point or an action that does not exist."""


@dataclass
class _Armed:
    action: str
    errno: int
    seconds: float
    nth: int | None
    hits: int = 0


_armed: dict[str, _Armed] = {}
_log: Path | None = None
_lock = threading.Lock()


def hit(name: str) -> None:
    """Acts if the point is armed. Raises OSError or TimeoutError if that is the action."""
    if _armed:
        _hit(name)


@contextmanager
def step(name: str) -> Iterator[None]:
    """A durable step: the point before it, and the point after it unless it raises. Without a name: nothing."""
    hit(f"{name}.before")
    yield
    hit(f"{name}.after")


def armed() -> list[str]:
    """The names of the armed points."""
    return sorted(_armed)


def arm_from_environment(environment: Mapping[str, str] = os.environ) -> None:
    """Arms what the variable says, once, when a process starts. Raises FailpointError."""
    arm(environment.get(VARIABLE, ""), environment.get(LOG_VARIABLE, ""))


def arm(specification: str, log: str = "") -> None:
    """Arms these points and no others. Raises FailpointError."""
    global _log
    found: dict[str, _Armed] = {}
    for entry in filter(None, (part.strip() for part in specification.split(";"))):
        match = _ENTRY.fullmatch(entry)
        number = getattr(errno, match["errno"], None) if match and match["errno"] else 0
        if match is None or number is None:
            raise FailpointError(
                f"{VARIABLE}: {entry!r} is no NAME=ACTION; actions are kill, raise:ENOSPC (any errno), timeout, "
                "sleep:SECONDS and hang, each with @N for the N-th time only"
            )
        if match["name"] not in NAMES:
            raise FailpointError(f"{VARIABLE}: there is no point {match['name']!r}; there are {', '.join(NAMES)}")
        found[match["name"]] = _Armed(
            action=match["action"].partition(":")[0],
            errno=number,
            seconds=float(match["seconds"] or 0),
            nth=int(match["nth"]) if match["nth"] else None,
        )
    with _lock:
        _armed.clear()
        _armed.update(found)
        _log = Path(log) if log else None


def _hit(name: str) -> None:
    with _lock:
        point = _armed.get(name)
        if point is None:
            return
        point.hits += 1
        if point.nth not in (None, point.hits) or not _first_of_all(name):
            return
    if point.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if point.action == "raise":
        raise OSError(point.errno, f"{os.strerror(point.errno)} (failpoint {name})")
    if point.action == "timeout":
        raise TimeoutError(f"failpoint {name}")
    if point.action == "sleep":
        time.sleep(point.seconds)
    while point.action == "hang":
        time.sleep(3600)


def _first_of_all(name: str) -> bool:
    """Whether the point has not acted yet, as far as the log knows; notes that it does."""
    if _log is None:
        return True
    done = _log.read_text().split() if _log.exists() else []
    if name in done:
        return False
    with _log.open("a") as file:
        file.write(name + "\n")
    return True
