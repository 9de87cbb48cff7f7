"""What a pull tells while it goes on: for people a line, for programs an object."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lyra_adapters.models.base import Model


class What(StrEnum):
    """What happened."""

    # The server has no version of the adapter yet.
    WAITING = "waiting"
    # Link and state file say what is in force.
    IN_FORCE = "in_force"
    # The server is not reached, or the version can't be had or written; tried again.
    FAILED = "failed"
    # It works again.
    MENDED = "mended"
    # A hook did its work.
    HOOK_DONE = "hook_done"
    # A hook did not; tried again.
    HOOK_FAILED = "hook_failed"
    # Old versions were removed.
    PRUNED = "pruned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Model):
    """One thing that happened.

    Attributes:
        what: What.
        message: The same in words.
        active: Full name of what is in force, or should be.
        pointer_revision: The pointer's revision.
        path: The version's directory.
        hook: The hook's name.
        retry_in: Seconds until it is tried again.
    """

    what: What
    message: str
    active: str = ""
    pointer_revision: int = 0
    path: str = ""
    hook: str = ""
    retry_in: float | None = None


class Reporter:
    """Hands reports on, one at a time, from whichever thread.

    Args:
        tell: Called with each report.
    """

    def __init__(self, tell: Callable[[Report], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()

    def __call__(self, what: What, message: str, **details: Any) -> None:
        """Reports something."""
        with self._lock:
            self._tell(Report(what=what, message=message, **details))
