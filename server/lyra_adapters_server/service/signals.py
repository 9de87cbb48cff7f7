"""SIGTERM and SIGINT: the first ends the server in order and within a bound, a second one at once."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable

import structlog

log = structlog.get_logger()

# When an orderly stop is broken off. Each of its parts has a bound of its own, less than this together; this one holds
# even where the event loop stands still, say in a system call on a broken disk.
STOP_WITHIN_S = 14.0
# The exit status then. What was stored is whole, as after a crash.
BROKEN_OFF = 1


def on_signals(kill_worker: Callable[[], None]) -> asyncio.Event:
    """Takes both signals over.

    Args:
        kill_worker: Ends the worker process at once: nobody will be there to do it later.

    Returns:
        An event that is set by the first signal.
    """
    stop = asyncio.Event()

    def leave(status: int, why: str) -> None:
        log.warning("stopped_at_once", reason=why)
        try:
            kill_worker()
        finally:
            os._exit(status)

    def receive(number: signal.Signals) -> None:
        if stop.is_set():
            leave(128 + number, f"a second signal ({number.name})")
        stop.set()
        timer = threading.Timer(STOP_WITHIN_S, leave, (BROKEN_OFF, f"not over after {STOP_WITHIN_S:g} s"))
        timer.daemon = True
        timer.start()

    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, receive, one)
    return stop
