"""What is done after each change: a command, or a call to any HTTP server. `engines` has those for engines."""

from __future__ import annotations

import hashlib
import os
import shlex
import signal
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from lyra_adapters.pull.names import BASE
from lyra_adapters.pull.web import Web, WebError

STANDARD_ERROR = 2


class HookFailed(Exception):
    """A hook that did not do its work; it stays pending and is tried again."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What a hook is told.

    Attributes:
        adapter: The adapter.
        active: Full name of the version in force, or `base`.
        previous: What this hook was told before; empty the first time.
        pointer_revision: The pointer's revision.
        path: The version's directory, absolute; None while `base` is in force.
    """

    adapter: str
    active: str
    previous: str
    pointer_revision: int
    path: Path | None

    @property
    def version(self) -> str:
        """`v3`, or `base`."""
        return BASE if self.active == BASE else self.active.removeprefix(f"{self.adapter}_")


class Hook(ABC):
    """Something that is told what is in force, at least once after each change.

    Attributes:
        name: What it is called in reports and in the file of what hooks were told; holds no secret.
        looks_again: Whether it is also called again and again, since what it set right may be lost (an engine that was
            started anew). Such a hook looks first and changes only what is wrong.
    """

    name: str
    looks_again = False

    @abstractmethod
    def apply(self, now: Situation, stop: threading.Event) -> bool:
        """Does its work; returns whether there was any. Raises HookFailed; ends soon once `stop` is set."""


class RunCommand(Hook):
    """Runs a command, without a shell; what is in force comes in environment variables.

    Args:
        command: Words as a shell would split them; nothing in them is expanded.
        timeout: Seconds until it is killed, with what it started.

    Raises:
        ValueError: The command is empty, or a quotation in it does not end.
    """

    def __init__(self, command: str, *, timeout: float = 600.0) -> None:
        self._words = shlex.split(command)
        if not self._words:
            raise ValueError("the command is empty")
        self._timeout = timeout
        self.name = f"run {self._words[0]} ({_short_digest(command)})"

    def apply(self, now: Situation, stop: threading.Event) -> bool:
        """Runs it; its output goes to standard error."""
        environment = {
            **os.environ,
            "LYRA_ADAPTER": now.adapter,
            "LYRA_ADAPTER_ACTIVE": now.active,
            "LYRA_ADAPTER_VERSION": now.version,
            "LYRA_ADAPTER_PATH": "" if now.path is None else str(now.path),
            "LYRA_ADAPTER_PREVIOUS": now.previous,
            "LYRA_ADAPTER_REVISION": str(now.pointer_revision),
        }
        try:
            running = subprocess.Popen(
                self._words,
                env=environment,
                stdin=subprocess.DEVNULL,
                # Standard output is for the reports of --json.
                stdout=STANDARD_ERROR,
                start_new_session=True,
            )
        except OSError as error:
            raise HookFailed(f"{self._words[0]} can't be run: {error.strerror or error}") from None
        ends = time.monotonic() + self._timeout
        while running.poll() is None:
            if stop.wait(0.05) or time.monotonic() > ends:
                _end(running)
                why = "was stopped" if stop.is_set() else f"took longer than {self._timeout:g} s"
                raise HookFailed(f"{self._words[0]} {why}")
        if running.returncode:
            raise HookFailed(f"{self._words[0]} ended with status {running.returncode}")
        return True


class PostChange(Hook):
    """POSTs what is in force as JSON; an answer of the 200s is a success.

    Args:
        url: Where to.
        timeout: Seconds for the call.

    Raises:
        ValueError: The URL is not one of HTTP.
    """

    def __init__(self, url: str, *, timeout: float = 60.0) -> None:
        self._web = Web(url, timeout=timeout)
        self.name = f"post {self._web.shown} ({_short_digest(url)})"

    def apply(self, now: Situation, stop: threading.Event) -> bool:
        """Posts it."""
        body = {
            "adapter": now.adapter,
            "active": now.active,
            "version": now.version,
            "previous": now.previous,
            "pointer_revision": now.pointer_revision,
            "path": "" if now.path is None else str(now.path),
        }
        try:
            self._web.call(body=body)
        except WebError as error:
            raise HookFailed(str(error)) from None
        return True


def _short_digest(text: str) -> str:
    """Tells hooks apart whose names would be the same, without showing what may be secret."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _end(running: subprocess.Popen[bytes]) -> None:
    """Ends a command and what it started: asked first, then forced."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(running.pid, how)
            running.wait(2)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
        break
