"""A real server process on a free loopback port."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lyra_adapters import AdapterClient
from lyra_adapters.v1 import adapter_service_pb2 as pb
from lyra_adapters.v1 import adapter_service_pb2_grpc as pb_grpc

START_S = 60.0
# A base of two layers gains nothing from a second thread, and tests run side by side.
ONE_THREAD = {"LYRA_ADAPTERS_THREADS": "1"}


class ServerProcess:
    """`lyra-adapters serve` in a process of its own; its log is kept line by line."""

    def __init__(
        self,
        home: Path,
        base: str,
        cache: Path,
        *flags: str,
        command: tuple[str, ...] = (sys.executable, "-m", "lyra_adapters_server.service.main"),
        environment: Mapping[str, str] | None = None,
        wait: bool = True,
        port: str = "0",
    ) -> None:
        self.home = home
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("LYRA_ADAPTERS_")}
        self.process = subprocess.Popen(
            [
                *command,
                *("--home", str(home), "--cache-dir", str(cache), "--base-model", base),
                *("--listen", f"127.0.0.1:{port}", "--log-format", "json", *flags),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**inherited, **(ONE_THREAD if base.startswith("tiny=") else {}), **(environment or {})},
            encoding="utf-8",
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.address = ""
        self.client: AdapterClient | None = None
        if wait:
            self.wait_serving()

    def wait_serving(self, seconds: float = START_S) -> ServerProcess:
        """Waits until it listens."""
        self.address = self.wait_for_log("serving", seconds=seconds)["address"]
        self.client = AdapterClient(self.address)
        return self

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log lines of one event so far."""
        found = []
        for line in list(self.lines):
            if line.startswith("{"):
                try:
                    content = json.loads(line)
                except json.JSONDecodeError:
                    # The last line of a process that was killed.
                    continue
                if content.get("event") == event:
                    found.append(content)
        return found

    def wait_for_log(self, event: str, count: int = 1, seconds: float = START_S) -> dict[str, Any]:
        """The count-th log line of an event."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if len(found := self.logged(event)) >= count:
                return found[count - 1]
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"no {event!r} in the log:\n" + "\n".join(self.lines[-30:]))

    def wait_ready(self) -> ServerProcess:
        """Waits until the base model is loaded."""
        self.wait_for_log("base_loaded")
        return self

    def worker_pid(self) -> int:
        """The newest trainer's process id."""
        return int(self.logged("worker_started")[-1]["pid"])

    def stub(self) -> pb_grpc.AdapterServiceStub:
        """The bare stub, for requests that the client would not send."""
        import grpc

        return pb_grpc.AdapterServiceStub(grpc.insecure_channel(self.address))

    def wait_for_state(self, job_id: str, *states: str, seconds: float = 60.0) -> pb.Job:
        """The job once it is in one of the states."""
        stub = self.stub()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            job = stub.Status(pb.StatusRequest(job_id=job_id)).job
            if pb.JobState.Name(job.state).removeprefix("JOB_STATE_") in states:
                return job
            time.sleep(0.02)
        raise AssertionError(f"job {job_id} is not {states}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Ends the server and returns its exit status. Again: the same."""
        if self.client:
            self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.communicate(timeout=30) if not self._reader.is_alive() else self.process.wait(30)
        self._reader.join(10)
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()
        return self.process.returncode

    @property
    def port(self) -> str:
        """The port it listens on."""
        match = re.search(r":(\d+)$", self.address)
        assert match
        return match[1]
