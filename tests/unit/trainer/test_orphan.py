"""A worker without its server ends by itself, whatever it is doing."""

from __future__ import annotations

import socket
import subprocess
import sys

HANGS = """
import socket, sys, time
from lyra_adapters_server.trainer.orphan import end_without_server
end_without_server(socket.socket(fileno=int(sys.argv[1])), grace_s=0.1)
print("hangs", flush=True)
time.sleep(3600)
"""


def test_a_hanging_worker_ends_after_its_server() -> None:
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-c", HANGS, str(theirs.fileno())]
    with subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdout=subprocess.PIPE, text=True) as worker:
        theirs.close()
        assert worker.stdout
        try:
            assert worker.stdout.readline() == "hangs\n"
            ours.send(b"what comes on the socket ends nothing\n")
            assert worker.poll() is None
            ours.close()
            assert worker.wait(60) == 1
        finally:
            worker.kill()
