"""How the server ends: in order, within a bound; a job keeps its last step, callers are told to come back."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from lyra_adapters.v1 import adapter_service_pb2 as pb
from server_process import ServerProcess
from test_job_life import begin, watch
from test_resumed_jobs import request, wait_for_step
from train_requests import kinds, train_request

StartServer = Callable[..., ServerProcess]


@pytest.fixture
def stopped_workers() -> Iterator[list[int]]:
    """Trainers that a test has stopped; those that outlived the test are ended."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def details(error: grpc.RpcError) -> tuple[str, float]:
    """Reason and retry delay of an error."""
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for one in rpc_status.from_call(error).details:
        one.Unpack(info)
        one.Unpack(retry)
    return info.reason, retry.retry_delay.ToTimedelta().total_seconds()


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_an_orderly_stop_keeps_the_last_step(start_server: StartServer) -> None:
    server = start_server(
        "--checkpoint-seconds", "0", "--max-attempts", "1", "--progress-interval-s", "0.05"
    ).wait_ready()
    job_id = begin(server, request("stopped"))
    assert wait_for_step(server, job_id, 20)
    worker, begun = server.worker_pid(), time.monotonic()
    assert server.stop(signal.SIGINT) == 0
    assert time.monotonic() - begun < 15
    assert is_gone(worker)
    assert server.logged("stopped")
    again = start_server("--max-attempts", "1", "--checkpoint-seconds", "0")
    events = watch(again, job_id)
    # None was due before: the first is the one that the stop asked for, and nothing after it was lost.
    checkpoint = next(event for event in events if event.WhichOneof("event") == "checkpointed")
    after = events[checkpoint.sequence :]
    assert kinds(after)[0] == "resumed"
    assert after[0].resumed.step == checkpoint.checkpointed.step >= 20
    steps = [event.progress.step for event in events if event.WhichOneof("event") == "progress"]
    assert steps == sorted(set(steps))
    assert kinds(events)[-1] == "succeeded"


def test_callers_are_told_to_come_back(start_server: StartServer, stopped_workers: list[int]) -> None:
    server = start_server().wait_ready()
    job_id = begin(server, request("watched"))
    assert wait_for_step(server, job_id, 5)
    # Connected before, since there are only some seconds.
    stub, channel = server.stub(), grpc.insecure_channel(server.address)
    health = health_pb2_grpc.HealthStub(channel)
    assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
    reader = stub.Watch(pb.WatchRequest(job_id=job_id))
    next(reader)
    # A trainer that stands still holds the stop up, so that there is time to look.
    stopped_workers.append(server.worker_pid())
    os.kill(server.worker_pid(), signal.SIGSTOP)
    begun = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    server.wait_for_log("stopping")
    for call in (
        lambda: list(reader),
        lambda: list(stub.Train(train_request("late"))),
        lambda: list(stub.Watch(pb.WatchRequest(job_id=job_id))),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            call()
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        reason, delay = details(refused.value)
        assert reason == "SERVER_STOPPING"
        assert 0 < delay <= 10
    assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    # What needs no trainer is answered as long as the server is there.
    assert stub.Status(pb.StatusRequest(job_id=job_id)).job.job_id == job_id
    assert server.process.wait(15) == 0
    assert time.monotonic() - begun < 15
    assert is_gone(stopped_workers[0])


def test_a_second_signal_ends_it_at_once(start_server: StartServer, stopped_workers: list[int]) -> None:
    server = start_server("--lease-s", "1").wait_ready()
    job_id = begin(server, request("hasty"))
    assert wait_for_step(server, job_id, 5)
    stopped_workers.append(server.worker_pid())
    os.kill(server.worker_pid(), signal.SIGSTOP)
    server.process.send_signal(signal.SIGTERM)
    server.wait_for_log("stopping")
    begun = time.monotonic()
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(5) == 128 + signal.SIGINT
    assert time.monotonic() - begun < 1
    deadline = time.monotonic() + 5
    while not is_gone(stopped_workers[0]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert is_gone(stopped_workers[0])


@pytest.mark.slow
def test_it_stops_while_its_base_is_being_loaded(start_server: StartServer) -> None:
    server = start_server()
    begun = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begun < 15


# Stands for a process that is stuck in a system call.
STUCK = """
import sys, time
from lyra_adapters_server.service import main, signals
signals.STOP_WITHIN_S = 1.0
main.Supervisor.stop = lambda self: time.sleep(60)
sys.exit(main.main(sys.argv[1:]))
"""


def test_a_stop_that_is_stuck_is_broken_off(start_server: StartServer) -> None:
    server = start_server(command=(sys.executable, "-c", STUCK)).wait_ready()
    begun = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(10) == 1
    assert time.monotonic() - begun < 5
    assert server.wait_for_log("stopped_at_once")
