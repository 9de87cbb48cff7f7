"""Ends a worker whose server is gone, also one that hangs and never looks at its socket again. Imports no torch."""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time

LOG = logging.getLogger(__name__)

# What a worker that works needs to end its turn and to put its trainings aside.
GRACE_S = 20.0


def end_without_server(connection: socket.socket, grace_s: float = GRACE_S) -> None:
    """Watches from now on whether the other side has closed, and ends the process `grace_s` seconds after that.

    On a thread: libraries let others run while they compute or wait. The one that hangs inside the interpreter's own
    lock is left to whoever started the server.
    """
    # The descriptor of its own outlives the socket's.
    watched = os.dup(connection.fileno())
    threading.Thread(target=_watch, args=(watched, grace_s), name="orphan-watch", daemon=True).start()


def _watch(descriptor: int, grace_s: float) -> None:
    poll = select.poll()
    # Hanging up is always told of; what can be read is not asked for, so nothing wakes it meanwhile.
    poll.register(descriptor, 0)
    poll.poll()
    time.sleep(grace_s)
    LOG.error("the server is gone and this trainer hangs: it ends")
    os._exit(1)
