"""Storage that does the write and then times out, full disks, and many callers with one request id."""

from __future__ import annotations

import os
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from lyra_adapters.v1 import adapter_service_pb2 as pb
from server_process import ServerProcess
from train_requests import kinds, train_request

StartServer = Callable[..., ServerProcess]


def details(error: grpc.RpcError) -> tuple[str, bool]:
    """The reason, and whether there is a hint when to try again."""
    status = rpc_status.from_call(error)
    info, retry = error_details_pb2.ErrorInfo(), False
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        retry = retry or detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR)
    return info.reason, retry


def points(value: str) -> dict[str, str]:
    return {"LYRA_ADAPTERS_FAILPOINTS": value}


def first_event(server: ServerProcess, request: pb.TrainRequest) -> pb.TrainEvent:
    call = server.stub().Train(request, timeout=60)
    event = next(iter(call))
    call.cancel()
    return event


def follow(server: ServerProcess, job_id: str) -> list[pb.TrainEvent]:
    events = server.stub().Watch(pb.WatchRequest(job_id=job_id), timeout=90)
    return [event for event in events if event.WhichOneof("event") != "heartbeat"]


def test_a_retry_after_execute_then_timeout_finds_what_was_done(start_server: StartServer) -> None:
    done_but_untold = ("accept.after", "acknowledge.before", "rollback.after", "activate.after", "feedback.after")
    armed = ";".join(f"{point}=timeout@1" for point in done_but_untold)
    server = start_server(environment=points(f"{armed};event.after=timeout@3")).wait_ready()
    request = train_request("lost_answers", request_id=str(uuid.uuid4()), activation=pb.ACTIVATION_ALWAYS)
    stub = server.stub()
    refusals = []
    for _ in range(2):
        with pytest.raises(grpc.RpcError) as lost:
            first_event(server, request)
        refusals.append((lost.value.code(), *details(lost.value)))
    assert refusals == [(grpc.StatusCode.UNAVAILABLE, "STORAGE_TIMEOUT", True)] * 2
    job_id = first_event(server, request).job_id
    jobs = stub.ListJobs(pb.ListJobsRequest()).jobs
    assert [job.job_id for job in jobs] == [job_id]
    # One of its events was stored and not told of, so the job was given back and goes on.
    events = follow(server, job_id)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert kinds(events)[-1] == "succeeded"

    rollback = pb.RollbackRequest(adapter="lost_answers", request_id=str(uuid.uuid4()))
    with pytest.raises(grpc.RpcError) as lost:
        stub.Rollback(rollback)
    assert (lost.value.code(), *details(lost.value)) == refusals[0]
    again = stub.Rollback(rollback)
    assert (again.change.active, again.change.pointer_revision, again.changed) == ("base", 2, False)

    activate = pb.ActivateRequest(adapter="lost_answers", version="v1", request_id=str(uuid.uuid4()))
    with pytest.raises(grpc.RpcError):
        stub.Activate(activate)
    assert stub.Activate(activate).change.pointer_revision == 3

    review = pb.RecordFeedbackRequest(reviews=[pb.Review(sample=request.samples[0])])
    with pytest.raises(grpc.RpcError) as lost:
        stub.RecordFeedback(review)
    assert (lost.value.code(), *details(lost.value)) == refusals[0]
    assert stub.RecordFeedback(review).unchanged == 1


def test_one_request_id_from_32_threads_is_one_job(server: ServerProcess) -> None:
    request = train_request("crowd", epochs=1, request_id=str(uuid.uuid4()))
    other = train_request("crowd", epochs=1, request_id=request.request_id, actor="somebody else")
    together = threading.Barrier(32)

    def call(number: int) -> str:
        together.wait()
        try:
            return str(first_event(server, other if number % 8 == 7 else request).job_id)
        except grpc.RpcError as error:
            return str(error.code())

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(call, range(32)))
    refused = str(grpc.StatusCode.ALREADY_EXISTS)
    ids = set(answers) - {refused}
    assert len(ids) == 1, answers
    # Whichever content came first is the job's; the other is refused.
    assert answers.count(refused) in (4, 28)
    jobs = server.stub().ListJobs(pb.ListJobsRequest(adapter="crowd")).jobs
    assert {job.job_id for job in jobs} == ids
    assert len(jobs) == 1
    server.stub().Cancel(pb.CancelRequest(job_id=ids.pop()))


def test_a_full_disk_fails_the_job_and_nothing_else(start_server: StartServer) -> None:
    # In the order in which a job meets them: each job in turn meets the next.
    full = ("adapter.write.before", "publish.write.after", "publish.commit.before", "publish.rename.before")
    full += ("publish.rename.after",)
    # Here the version is published already, so its job goes on: when storage works again, and on the reserve's space.
    late = "link.pointer.before=raise:EIO@1;link.file.before=raise:ENOSPC@1"
    armed = ";".join([*(f"{point}=raise:ENOSPC@1" for point in full), late])
    server = start_server(environment=points(armed)).wait_ready()
    stub = server.stub()
    for _ in full:
        events = list(stub.Train(train_request("full", epochs=1)))
        assert kinds(events)[-1] == "failed"
        assert events[-1].failed.reason == "DISK_FULL"
        assert "Free space" in events[-1].failed.message
        assert not stub.List(pb.ListRequest(adapter="full")).versions
        # The end is written down first, then what the job had prepared is cleared away.
        ends = time.monotonic() + 10
        while left := sorted(path.name for path in server.home.iterdir() if path.name.startswith("full")):
            assert time.monotonic() < ends, left
            time.sleep(0.02)
        assert doctor(server.home) == 0
    events = list(stub.Train(train_request("full", epochs=1, activation=pb.ACTIVATION_ALWAYS)))
    assert kinds(events)[-1] == "succeeded"
    assert server.logged("storage_failed")
    assert server.logged("reserve_given_up")
    assert (server.home / "full").resolve().name == events[-1].succeeded.version
    assert server.stop() == 0
    assert doctor(server.home) == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of a few MiB."""
    home = tmp_path / "small"
    home.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(home)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"can't mount a small file system here: {mounted.stderr.decode().strip()}")
    yield home
    subprocess.run(["umount", "-l", str(home)], check=False)


def test_a_file_system_that_is_full_to_the_last_byte(start_server: StartServer, small_disk: Path) -> None:
    server = start_server(home=small_disk).wait_ready()
    stub = server.stub()
    request = train_request("small", epochs=1, activation=pb.ACTIVATION_ALWAYS)
    assert kinds(list(stub.Train(request)))[-1] == "succeeded"
    reserve, ballast = small_disk / ".reserve", small_disk / "ballast"
    assert reserve.stat().st_size == reserve.stat().st_blocks * 512

    stream = stub.Train(train_request("small", epochs=100), timeout=60)
    started = next(event for event in stream if event.WhichOneof("event") == "progress")
    fill(ballast)
    events = list(stream)
    assert (kinds(events)[-1], events[-1].failed.reason) == ("failed", "DISK_FULL")
    job = stub.Status(pb.StatusRequest(job_id=started.job_id)).job
    assert (job.state, job.failure.reason) == (pb.JOB_STATE_FAILED, "DISK_FULL")

    # Nothing that could not be carried out is acknowledged, but what an operator may need is done.
    fill(ballast)
    with pytest.raises(grpc.RpcError) as refused:
        first_event(server, train_request("small", epochs=1))
    assert (refused.value.code(), *details(refused.value)) == (grpc.StatusCode.UNAVAILABLE, "DISK_FULL", True)
    assert stub.List(pb.ListRequest(adapter="small")).versions[0].version == "v1"

    ballast.unlink()
    assert kinds(list(stub.Train(train_request("small", epochs=1))))[-1] == "succeeded"
    assert reserve.exists()
    fill(ballast)
    assert stub.Rollback(pb.RollbackRequest(adapter="small")).change.active == "base"
    assert not os.path.lexists(small_disk / "small")
    assert stub.DeleteVersion(pb.DeleteVersionRequest(adapter="small", version="v1")).changed
    assert server.stop() == 0
    ballast.unlink()
    assert doctor(small_disk) == 0


def fill(ballast: Path) -> None:
    """Writes until nothing goes any more."""
    with ballast.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return


def doctor(home: Path) -> int:
    from lyra_adapters.cli import main

    return main(["doctor", "--home", str(home), "--json"])
