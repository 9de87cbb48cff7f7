"""Two servers on one home share its queue: no job runs twice at a time, and none is published twice."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lyra_adapters.v1 import adapter_service_pb2 as pb
from server_process import ServerProcess
from train_requests import kinds, train_request

StartServer = Callable[..., ServerProcess]


def begin(server: ServerProcess, request: pb.TrainRequest) -> str:
    call = server.stub().Train(request)
    job_id = str(next(iter(call)).job_id)
    call.cancel()
    return job_id


def follow(server: ServerProcess, job_id: str) -> list[pb.TrainEvent]:
    events = server.stub().Watch(pb.WatchRequest(job_id=job_id), timeout=90)
    return [event for event in events if event.WhichOneof("event") != "heartbeat"]


def running_on(home: Path, job_id: str) -> str:
    connection = sqlite3.connect(f"file:{home / 'registry.db'}?mode=ro", uri=True)
    owner = connection.execute("SELECT lease_owner FROM jobs WHERE job_id = ?", (job_id,)).fetchone()[0]
    connection.close()
    return str(owner)


def test_a_server_that_was_stopped_beyond_its_lease_publishes_nothing(start_server: StartServer) -> None:
    flags = ("--lease-s", "2", "--progress-interval-s", "0")
    first = start_server(*flags).wait_ready()
    job_id = begin(first, train_request("fenced", count=90, epochs=12))
    first.wait_for_state(job_id, "RUNNING")
    owner = running_on(first.home, job_id)
    # Both processes: as when a machine is paused.
    stopped = (first.process.pid, first.worker_pid())
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        second = start_server(*flags).wait_ready()
        events = follow(second, job_id)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert kinds(events)[-1] == "succeeded"
    assert kinds(events).count("published") == 1
    assert first.wait_for_log("lease_lost")["job_id"] == job_id
    assert follow(first, job_id) == events, "both servers tell the same"
    versions = first.stub().List(pb.ListRequest(adapter="fenced")).versions
    assert [version.name for version in versions] == ["fenced_v1"]
    assert not (first.home / "fenced_v2").exists()
    assert owner != running_on(first.home, job_id)
    # The first takes part again.
    assert kinds(follow(second, begin(first, train_request("later"))))[-1] == "succeeded"


def test_two_servers_share_a_queue(start_server: StartServer) -> None:
    flags = ("--lease-s", "3")
    servers = [start_server(*flags), start_server(*flags)]
    for server in servers:
        server.wait_ready()
    jobs = [begin(servers[n % 2], train_request(f"shared_{n}", epochs=1)) for n in range(6)]
    for job_id in jobs:
        first, second = (follow(server, job_id) for server in servers)
        assert first == second
        assert kinds(first)[-1] == "succeeded"
        assert kinds(first).count("started") == kinds(first).count("published") == 1
    versions = servers[0].stub().List(pb.ListRequest()).versions
    assert sorted(version.job_id for version in versions) == sorted(jobs)
    # Start-up of a server beside one that works mends nothing of it.
    assert not [line for server in servers for line in server.logged("mended")]


# tests/crash kills servers too.
@pytest.mark.slow
def test_a_killed_servers_job_is_taken_up_at_once_not_after_its_lease(start_server: StartServer) -> None:
    first = start_server("--lease-s", "600").wait_ready()
    job_id = begin(first, train_request("orphan", count=90, epochs=12))
    first.wait_for_state(job_id, "RUNNING")
    first.stop(signal.SIGKILL)
    begun = time.monotonic()
    second = start_server("--lease-s", "600").wait_ready()
    events = follow(second, job_id)
    assert kinds(events)[-1] == "succeeded"
    assert time.monotonic() - begun < 90
    assert [line["what"] for line in second.logged("mended")][:1] == ["jobs of a server that died can be taken up"]
