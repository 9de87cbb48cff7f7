"""Limits: a call over one is refused with RESOURCE_EXHAUSTED, the limit, its setting and when to come back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from lyra_adapters import AdapterClient, ReconnectPolicy, ResourceExhausted
from lyra_adapters.v1 import adapter_service_pb2 as pb
from server_process import ServerProcess
from tiny_base import rows
from train_requests import train_request

STREAMS = 4
QUEUED = 2
# 200 rows one by one, a hundred times over: some tens of seconds, unless it is cancelled.
SLOW = {"count": 200, "epochs": 100}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Iterator[ServerProcess]:
    """A server with small limits."""
    home = tmp_path_factory.mktemp("narrow")
    limits = ("--max-streams-per-principal", str(STREAMS), "--max-queued-jobs-per-principal", str(QUEUED))
    process = ServerProcess(home / "home", f"tiny={tiny_base}", home / "cache", *limits, "--max-message-mib", "1")
    yield process.wait_ready()
    process.stop()


@pytest.fixture
def running(narrow: ServerProcess) -> Iterator[str]:
    """A job that keeps the trainer busy for the length of a test."""
    job_id = accepted(narrow, slow_request())
    narrow.wait_for_state(job_id, "RUNNING")
    yield job_id
    stub = narrow.stub()
    live = [pb.JOB_STATE_QUEUED, pb.JOB_STATE_RUNNING]
    for job in stub.ListJobs(pb.ListJobsRequest(states=live)).jobs:
        stub.Cancel(pb.CancelRequest(job_id=job.job_id))
        narrow.wait_for_state(job.job_id, "CANCELLED")


def slow_request(**fields: object) -> pb.TrainRequest:
    request = train_request("slow", **SLOW, **fields)
    request.training.batch_size = 1
    request.training.patience = 0
    return request


def accepted(server: ServerProcess, request: pb.TrainRequest) -> str:
    """Sends a Train and leaves its stream; returns the job's id."""
    call = server.stub().Train(request)
    job_id = next(call).job_id
    call.cancel()
    return job_id


def refused(call: Iterator[pb.TrainEvent]) -> tuple[str, error_details_pb2.ErrorInfo, float]:
    """The message of a RESOURCE_EXHAUSTED, what it names, and the seconds to wait."""
    with pytest.raises(grpc.RpcError) as error:
        next(call)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    status = rpc_status.from_call(error.value)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert [detail.Is(kind.DESCRIPTOR) for detail, kind in zip(status.details, (info, retry), strict=True)] == [
        True
    ] * 2
    status.details[0].Unpack(info)
    status.details[1].Unpack(retry)
    assert info.domain == "lyra_adapters"
    return status.message, info, retry.retry_delay.ToMilliseconds() / 1000


def test_a_full_queue_refuses_and_creates_nothing(narrow: ServerProcess, running: str) -> None:
    stub = narrow.stub()
    uuid = "123e4567-e89b-42d3-a456-426614174000"
    waiting = accepted(narrow, train_request("waits", request_id=uuid))
    others = [accepted(narrow, train_request("waits")) for _ in range(QUEUED - 1)]
    before = stub.ListJobs(pb.ListJobsRequest()).total_size
    message, info, wait = refused(stub.Train(train_request("waits")))
    assert info.reason == "QUEUE_FULL"
    assert dict(info.metadata) == {"setting": "max_queued_jobs_per_principal", "limit": str(QUEUED)}
    assert str(QUEUED) in message
    assert "max_queued_jobs_per_principal" in message
    assert wait > 0
    with AdapterClient(narrow.address, reconnect=ReconnectPolicy(give_up_after=0)) as client:
        with pytest.raises(ResourceExhausted, match="Nothing was created") as error:
            list(client.train(rows(60), adapter="waits"))
        assert error.value.reason == "QUEUE_FULL"
        assert error.value.retry_after == wait
    assert stub.ListJobs(pb.ListJobsRequest()).total_size == before
    assert not stub.List(pb.ListRequest(adapter="waits")).versions
    # A retry asks for no place: its job has one.
    assert accepted(narrow, train_request("waits", request_id=uuid)) == waiting
    stub.Cancel(pb.CancelRequest(job_id=others[0]))
    accepted(narrow, train_request("waits"))


def test_too_many_streams_are_refused_before_they_do_anything(narrow: ServerProcess, running: str) -> None:
    stub = narrow.stub()
    with contextlib.ExitStack() as stack:
        for _ in range(STREAMS):
            watch = stub.Watch(pb.WatchRequest(job_id=running))
            stack.callback(watch.cancel)
            next(watch)
        before = stub.ListJobs(pb.ListJobsRequest()).total_size
        for call in (
            stub.Watch(pb.WatchRequest(job_id=running)),
            stub.Train(train_request("more")),
            stub.WatchAdapter(pb.WatchAdapterRequest(adapter="slow")),
        ):
            message, info, wait = refused(call)
            assert info.reason == "TOO_MANY_STREAMS"
            assert dict(info.metadata) == {"setting": "max_streams_per_principal", "limit": str(STREAMS)}
            assert "max_streams_per_principal" in message
            assert wait > 0
        # Calls that are no streams are answered all the same, and nothing was created.
        assert stub.ListJobs(pb.ListJobsRequest()).total_size == before
    eventually_watched(narrow, running)


def test_streams_that_were_left_give_their_place_back(narrow: ServerProcess, running: str) -> None:
    for _ in range(20 * STREAMS):
        with eventually_watched(narrow, running):
            pass


@contextlib.contextmanager
def left(watch: grpc.Call) -> Iterator[None]:
    yield
    watch.cancel()


def eventually_watched(server: ServerProcess, job_id: str) -> contextlib.AbstractContextManager[None]:
    """Opens a Watch, at the latest when the server has noticed that others were left."""
    for _ in range(200):
        watch = server.stub().Watch(pb.WatchRequest(job_id=job_id))
        with contextlib.suppress(grpc.RpcError):
            next(watch)
            return left(watch)
        assert watch.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    raise AssertionError("no place was given back")


def test_a_message_that_is_too_large_is_explained_by_the_client(narrow: ServerProcess) -> None:
    with AdapterClient(narrow.address) as client, pytest.raises(ResourceExhausted, match="max_message_mib") as error:
        list(client.train([{**row, "premise": "x" * 15_000 + row["premise"]} for row in rows(100)]))
    assert error.value.reason == "MESSAGE_TOO_LARGE"
    assert narrow.stub().Status(pb.StatusRequest()).service.version


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("epochs", [5, 100])
def test_readers_that_take_nothing_hold_up_nobody(start_server: Callable[..., ServerProcess], epochs: int) -> None:
    """Hundreds or thousands of events past fifty streams that are never read: others are served, and memory stays."""
    server = start_server("--progress-interval-s", "0").wait_ready()
    stub = server.stub()
    request = train_request("busy", count=60, epochs=epochs, activation=pb.ACTIVATION_ALWAYS)
    request.training.batch_size = 1
    request.training.patience = 0
    training = stub.Train(request)
    job_id = next(training).job_id
    # Each on a connection of its own, so that none has another's flow control window.
    channels = [grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(50)]
    stuck = [
        channel.unary_stream(
            "/lyra_adapters.v1.AdapterService/Watch",
            request_serializer=pb.WatchRequest.SerializeToString,
            response_deserializer=pb.TrainEvent.FromString,
        )(pb.WatchRequest(job_id=job_id))
        for channel in channels
    ]
    memory = psutil.Process(server.process.pid).memory_info
    sequences, used = [1], []
    for event in training:
        sequences.append(event.sequence)
        if event.sequence % 100 == 0:
            used.append(memory().rss / 2**20)
    assert event.WhichOneof("event") == "succeeded"
    stored = [sequence for sequence in sequences if sequence]
    assert stored == list(range(1, len(stored) + 1))
    assert len(stored) > 40 * epochs
    print(f"{len(stored)} events, server memory by the way (MiB): {[round(value) for value in used]}")
    assert used[-1] - used[1] < 30
    # Whoever begins to read late misses nothing.
    assert [e.sequence for e in stuck[0] if e.sequence] == stored
    for channel in channels:
        channel.close()
