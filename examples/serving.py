"""Runs a server for as long as a script needs one, on a free loopback port and a home of its own."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lyra_adapters import AdapterClient, AdapterError

READY_S = 300.0
COMMAND = [sys.executable, "-m", "lyra_adapters.cli"]


@contextmanager
def serving(home: Path, *flags: str, log: Path | None = None) -> Iterator[str]:
    """Starts `lyra-adapters serve`, waits until its base model is ready, and ends it. Yields HOST:PORT.

    Raises RuntimeError with the server's last lines if it ends before it is ready.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LYRA_ADAPTERS_")}
    command = [*COMMAND, "serve", "--home", str(home), "--listen", "127.0.0.1:0", "--log-format", "json", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, encoding="utf-8")
    lines: list[str] = []
    addresses: queue.Queue[str] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process, lines, addresses, log), daemon=True)
    reader.start()
    try:
        address = _address(process, addresses, lines)
        _wait_until_ready(address, process, lines)
        yield address
    finally:
        process.terminate()
        process.wait(30)
        reader.join(5)


def _read(process: subprocess.Popen[str], lines: list[str], addresses: queue.Queue[str], log: Path | None) -> None:
    import json

    assert process.stderr
    for line in process.stderr:
        lines.append(line)
        if log:
            with log.open("a", encoding="utf-8") as file:
                file.write(line)
        if '"serving"' in line:
            addresses.put(json.loads(line)["address"])


def _address(process: subprocess.Popen[str], addresses: queue.Queue[str], lines: list[str]) -> str:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return addresses.get(timeout=0.1)
        except queue.Empty:
            continue
    raise RuntimeError("the server did not start:\n" + "".join(lines[-20:]))


def _wait_until_ready(address: str, process: subprocess.Popen[str], lines: list[str]) -> None:
    deadline = time.monotonic() + READY_S
    with AdapterClient(address) as client:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                base = client.status().base_models[0]
            except AdapterError:
                time.sleep(0.2)
                continue
            if base.error:
                raise RuntimeError(f"the base model could not be loaded: {base.error}")
            if base.state.name == "READY":
                return
            time.sleep(0.2)
    raise RuntimeError("the server did not become ready:\n" + "".join(lines[-20:]))
