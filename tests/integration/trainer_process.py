"""A real trainer process on one end of a socket pair."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from lyra_adapters_server.trainer.events import REPLY, Reply
from lyra_adapters_server.trainer.spec import Method, Request, WorkerConfig
from lyra_adapters_server.types import Value


class TrainerProcess:
    def __init__(self, config: WorkerConfig) -> None:
        ours, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lyra_adapters_server.trainer.worker", "--fd", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
        theirs.close()
        self.socket = ours
        self._file = ours.makefile("rb")
        self._next = 1
        self.send_line(config.model_dump_json())

    def __enter__(self) -> TrainerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        # A test that fails must not leave a process behind: its noise would hide the failure.
        self.stop()

    def send_line(self, line: str) -> None:
        self.socket.sendall(line.encode() + b"\n")

    def ask(self, method: Method, params: Value) -> int:
        number, self._next = self._next, self._next + 1
        self.send_line(Request(id=number, method=method, params=params.model_dump(mode="json")).model_dump_json())
        return number

    def replies(self) -> Iterator[Reply]:
        for line in self._file:
            yield REPLY.validate_json(line)

    def until_done(self, number: int) -> list[Reply]:
        """The replies to one request, up to its end; others are dropped."""
        found = []
        for reply in self.replies():
            if reply.id == number:
                found.append(reply)
                if reply.done:
                    return found
        raise AssertionError(f"the trainer closed before request {number} ended: {self.stop()}")

    def result(self, number: int) -> Any:
        """The last event of a request that must end well."""
        last = self.until_done(number)
        assert last[-1].error is None, last[-1].error
        return last[-2].event

    def stop(self) -> str:
        """Closes the socket and waits; gives what the process logged. Again: nothing."""
        if self.process.returncode is not None:
            return ""
        self._file.close()
        self.socket.close()
        assert self.process.stderr is not None
        log = self.process.stderr.read()
        self.process.stderr.close()
        self.process.wait(timeout=60)
        return log
