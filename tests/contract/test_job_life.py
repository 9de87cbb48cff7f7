"""A job outlives its caller, its trainer and its server; and it can be stopped."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from lyra_adapters.v1 import adapter_service_pb2 as pb
from server_process import ServerProcess
from train_requests import kinds, train_request

StartServer = Callable[..., ServerProcess]

# Long enough to be interrupted, short enough to be finished in a test.
LONG = {"count": 90, "epochs": 20}


def begin(server: ServerProcess, request: pb.TrainRequest) -> str:
    """Sends a request, drops the stream after the first event, and returns the job's id."""
    call = server.stub().Train(request)
    job_id = next(iter(call)).job_id
    call.cancel()
    return job_id


def watch(server: ServerProcess, job_id: str) -> list[pb.TrainEvent]:
    """The stored events; heartbeats come where a busy machine leaves the stream quiet, and belong to it alone."""
    events = server.stub().Watch(pb.WatchRequest(job_id=job_id), timeout=90)
    return [event for event in events if event.WhichOneof("event") != "heartbeat"]


def test_dropping_the_stream_cancels_nothing(server: ServerProcess) -> None:
    job_id = begin(server, train_request("dropped"))
    assert kinds(watch(server, job_id))[-1] == "succeeded"


def test_queue_and_cancel_while_waiting(server: ServerProcess) -> None:
    stub = server.stub()
    first = begin(server, train_request("busy", **LONG))
    # Only then is it out of the queue.
    server.wait_for_state(first, "RUNNING")
    second = begin(server, train_request("waiting"))
    third = begin(server, train_request("waiting"))
    queued = stub.Status(pb.StatusRequest()).service
    assert [job.job_id for job in queued.queued_jobs][-2:] == [second, third]
    assert stub.Status(pb.StatusRequest(job_id=third)).job.queue_position == queued.queue_length
    cancelled = stub.Cancel(pb.CancelRequest(job_id=second, actor="ada", reason="not needed")).job
    assert cancelled.state == pb.JOB_STATE_CANCELLED
    assert kinds(watch(server, second)) == ["queued", "cancelled"]

    server.wait_for_state(first, "RUNNING")
    running = stub.Cancel(pb.CancelRequest(job_id=first, actor="ada")).job
    assert running.cancel_requested
    events = watch(server, first)
    assert kinds(events)[-1] == "cancelled"
    assert events[-1].cancelled.actor == "ada"
    assert not stub.List(pb.ListRequest(adapter="busy")).versions
    assert not (server.home / "busy_v1").exists()
    with pytest.raises(grpc.RpcError) as refused:
        stub.Cancel(pb.CancelRequest(job_id=first))
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert kinds(watch(server, third))[-1] == "succeeded"


def test_same_request_id_is_the_same_job(server: ServerProcess) -> None:
    request = train_request("idempotent", request_id=str(uuid.uuid4()))
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: begin(server, request), range(8)))
    assert len(ids) == 1
    request.actor = "somebody else"
    with pytest.raises(grpc.RpcError) as refused:
        begin(server, request)
    assert refused.value.code() == grpc.StatusCode.ALREADY_EXISTS
    assert kinds(watch(server, ids.pop()))[-1] == "succeeded"


# tests/contract/test_resumed_jobs.py kills trainers too.
@pytest.mark.slow
def test_killed_trainer_is_started_again_and_the_job_goes_on(start_server: StartServer) -> None:
    server = start_server().wait_ready()
    job_id = begin(server, train_request("survivor", **LONG))
    server.wait_for_state(job_id, "RUNNING")
    os.kill(server.worker_pid(), signal.SIGKILL)
    events = watch(server, job_id)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert kinds(events).count("resumed") == 1
    assert kinds(events)[-1] == "succeeded"
    assert len(server.stub().List(pb.ListRequest(adapter="survivor")).versions) == 1


# tests/crash kills servers too.
@pytest.mark.slow
def test_killed_server_goes_on_after_its_restart(start_server: StartServer) -> None:
    server = start_server("--lease-s", "2").wait_ready()
    job_id = begin(server, train_request("survivor", **LONG))
    server.wait_for_state(job_id, "RUNNING")
    stored = (e for e in server.stub().Watch(pb.WatchRequest(job_id=job_id)) if e.WhichOneof("event") != "heartbeat")
    before = list(zip(range(5), stored, strict=False))
    server.stop(signal.SIGKILL)
    again = start_server("--lease-s", "2").wait_ready()
    events = watch(again, job_id)
    assert [event for _, event in before] == events[:5]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert kinds(events).count("resumed") == 1
    assert kinds(events)[-1] == "succeeded"


# tests/contract/test_shutdown.py stops servers too.
@pytest.mark.slow
def test_orderly_stop_gives_the_job_back_and_does_not_count(start_server: StartServer) -> None:
    server = start_server("--max-attempts", "1").wait_ready()
    job_id = begin(server, train_request("stopped", **LONG))
    server.wait_for_state(job_id, "RUNNING")
    assert server.stop() == 0
    events = watch(start_server("--max-attempts", "1").wait_ready(), job_id)
    assert kinds(events).count("resumed") == 1
    assert kinds(events)[-1] == "succeeded"


def test_job_that_kills_its_trainer_each_time_fails_with_the_reason(start_server: StartServer) -> None:
    server = start_server("--max-attempts", "2").wait_ready()
    job_id = begin(server, train_request("poison", **LONG))
    for count in (1, 2):
        server.wait_for_log("worker_started", count)
        server.wait_for_log("base_loaded", count)
        server.wait_for_log("job_state", 1)
        wait_for_attempt(server, job_id, count)
        os.kill(server.worker_pid(), signal.SIGKILL)
    events = watch(server, job_id)
    assert kinds(events)[-1] == "failed"
    assert events[-1].failed.reason == "TOO_MANY_ATTEMPTS"


def wait_for_attempt(server: ServerProcess, job_id: str, attempt: int) -> None:
    for event in server.stub().Watch(pb.WatchRequest(job_id=job_id)):
        kind = event.WhichOneof("event")
        if (kind == "started" and attempt == 1) or (kind == "resumed" and event.resumed.attempt == attempt):
            return
