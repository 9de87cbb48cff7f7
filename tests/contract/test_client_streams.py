"""Over a real socket: each event once and in order, wherever the stream breaks."""

import asyncio
import threading
import time
from collections.abc import Iterator

import grpc
import pytest
from lyra_adapters import (
    AdapterClient,
    AdapterError,
    AsyncAdapterClient,
    DeadlineExceeded,
    NotDue,
    NotFound,
    Reconnect,
    ReconnectPolicy,
    TrainingCancelled,
    TrainingFailed,
    Unavailable,
    VersionState,
)
from lyra_adapters.testing import FakeAdapterServer, cancelled_script, failed_script, training_script

SAMPLES = [{"premise": "p", "hypothesis": "h", "label": "supports", "original_label": "NEUTRAL"}]
FAST = ReconnectPolicy(initial=0.01, maximum=0.05)
SCRIPT = training_script(steps=3)
WHOLE = list(range(1, len(SCRIPT) + 1))


@pytest.fixture
def fake() -> Iterator[FakeAdapterServer]:
    with FakeAdapterServer() as server:
        yield server


@pytest.fixture
def client(fake: FakeAdapterServer) -> Iterator[AdapterClient]:
    with AdapterClient(fake.target, reconnect=FAST) as one:
        yield one


def read_sync(fake: FakeAdapterServer) -> list[int]:
    with AdapterClient(fake.target, reconnect=FAST) as client:
        return [event.sequence for event in client.train(SAMPLES)]


def read_async(fake: FakeAdapterServer) -> list[int]:
    async def read() -> list[int]:
        async with AsyncAdapterClient(fake.target, reconnect=FAST) as client:
            return [event.sequence async for event in client.train(SAMPLES)]

    return asyncio.run(read())


@pytest.mark.parametrize("read", [read_sync, read_async])
@pytest.mark.parametrize("position", [0, *WHOLE])
def test_each_event_once_wherever_it_breaks(fake: FakeAdapterServer, read: object, position: int) -> None:
    fake.script(SCRIPT, break_after=[position])
    assert read(fake) == WHOLE  # type: ignore[operator]
    calls = [call.rpc for call in fake.received]
    if position == 0:
        assert calls == ["Train", "Train"]
    elif position < len(WHOLE):
        assert calls == ["Train", "Watch"]
        assert fake.requests("Watch")[0].after_sequence == position
    else:
        assert calls == ["Train"]


@pytest.mark.parametrize("read", [read_sync, read_async])
def test_each_event_once_when_it_breaks_after_every_one(fake: FakeAdapterServer, read: object) -> None:
    fake.script(SCRIPT, break_after=[0, 0, *[1] * (len(SCRIPT) - 1)], heartbeats=True)
    assert read(fake) == WHOLE  # type: ignore[operator]


@pytest.mark.parametrize("read", [read_sync, read_async])
def test_what_is_sent_again_is_the_same_to_the_byte(fake: FakeAdapterServer, read: object) -> None:
    fake.script(SCRIPT, break_after=[0, 0])
    assert read(fake) == WHOLE  # type: ignore[operator]
    first, *others = fake.requests("Train")
    assert first.request_id
    assert len(others) == 2
    assert all(other == first for other in others)
    assert {call.metadata["x-request-id"] for call in fake.received} == {first.request_id}
    assert len(fake.jobs) == 1


def test_two_calls_are_two_jobs(client: AdapterClient, fake: FakeAdapterServer) -> None:
    client.train(SAMPLES).result()
    client.train(SAMPLES).result()
    assert len({request.request_id for request in fake.requests("Train")}) == 2
    assert len(fake.jobs) == 2


@pytest.mark.parametrize("read", [read_sync, read_async])
def test_a_restart_of_the_server_is_survived(fake: FakeAdapterServer, read: object) -> None:
    fake.script(SCRIPT, pause=0.05)
    timer = threading.Timer(0.25, fake.restart)
    timer.start()
    assert read(fake) == WHOLE  # type: ignore[operator]
    timer.join()
    assert "Watch" in [call.rpc for call in fake.received]


def test_heartbeats_are_swallowed_unless_asked_for(client: AdapterClient, fake: FakeAdapterServer) -> None:
    fake.script(SCRIPT, heartbeats=True)
    assert "heartbeat" not in [event.kind for event in client.train(SAMPLES)]
    fake.script(SCRIPT, heartbeats=True)
    assert "heartbeat" in [event.kind for event in client.train(SAMPLES, heartbeats=True)]


def test_train_is_sent_before_it_is_read_and_leaving_cancels_nothing(
    client: AdapterClient, fake: FakeAdapterServer
) -> None:
    job = fake.script(SCRIPT, hold_after=2)
    with client.train(SAMPLES) as stream:
        assert next(stream).kind == "queued"
        assert stream.job_id == job.job_id
    assert list(stream) == []
    assert not fake.requests("Cancel")
    job.release()
    assert [event.sequence for event in client.watch(job.job_id, after_sequence=stream.last_sequence)] == WHOLE[1:]


def test_refusals_end_the_stream_at_once(client: AdapterClient, fake: FakeAdapterServer) -> None:
    fake.fail_next(
        "Train",
        grpc.StatusCode.FAILED_PRECONDITION,
        "Training is not due.",
        reason="NOT_ENOUGH_SAMPLES",
        metadata={"have": "1", "need": "50"},
    )
    with pytest.raises(NotDue) as caught:
        next(client.train(SAMPLES))
    assert (caught.value.have, caught.value.need) == (1, 50)
    assert len(fake.received) == 1
    with pytest.raises(NotFound):
        list(client.watch("nothing"))


def test_a_base_model_that_still_loads_is_waited_for(fake: FakeAdapterServer) -> None:
    heard: list[Reconnect] = []
    fake.fail_next("Train", grpc.StatusCode.UNAVAILABLE, "loading", times=2, reason="BASE_MODEL_NOT_READY")
    with AdapterClient(fake.target, reconnect=FAST, on_reconnect=heard.append) as client:
        assert client.train(SAMPLES).result().name == "user_feedback_v1"
    assert [reconnect.error.reason for reconnect in heard] == ["BASE_MODEL_NOT_READY"] * 2


def test_a_server_that_is_not_there_is_given_up() -> None:
    policy = ReconnectPolicy(initial=0.01, connect_within=0.3)
    with AdapterClient("127.0.0.1:1", reconnect=policy) as client:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            next(client.train(SAMPLES))
        assert time.monotonic() - began < 5


def test_results_of_jobs(client: AdapterClient, fake: FakeAdapterServer) -> None:
    version = client.train(SAMPLES).result()
    assert (version.name, version.state) == ("user_feedback_v1", VersionState.ACTIVE)
    assert version.verdict is not None
    fake.script(training_script(version="v2", outcome="WORSE"))
    assert client.train(SAMPLES).result().state is VersionState.REJECTED
    fake.script(training_script(version="v3", outcome="UNDECIDED"))
    assert client.train(SAMPLES).result().state is VersionState.CANDIDATE
    failed = fake.add_job(failed_script("WORKER_DIED", "It died."))
    with pytest.raises(TrainingFailed) as failure:
        client.wait(failed.job_id)
    assert (failure.value.job_id, failure.value.reason) == (failed.job_id, "WORKER_DIED")
    cancelled = fake.add_job(cancelled_script("ana", "wrong rows"))
    with pytest.raises(TrainingCancelled, match="ana"):
        client.wait(cancelled.job_id)


def test_a_stream_has_one_deadline_over_all_its_calls(client: AdapterClient, fake: FakeAdapterServer) -> None:
    job = fake.add_job(SCRIPT, hold_after=2, break_after=[1])
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        client.wait(job.job_id, timeout=0.5)
    assert 0.4 < time.monotonic() - began < 5


def test_a_closed_client_says_so(fake: FakeAdapterServer) -> None:
    client = AdapterClient(fake.target)
    client.close()
    with pytest.raises(AdapterError, match="closed"):
        client.status()

    async def closed() -> None:
        client = AsyncAdapterClient(fake.target)
        await client.close()
        with pytest.raises(AdapterError, match="closed"):
            await client.status()

    asyncio.run(closed())


def test_a_reader_ends_when_another_thread_closes_its_stream(client: AdapterClient, fake: FakeAdapterServer) -> None:
    stream = client.watch(fake.add_job(SCRIPT, hold_after=2).job_id)
    threading.Timer(0.2, stream.close).start()
    assert [event.sequence for event in stream] == [1, 2]


def test_cancelling_the_task_ends_an_asyncio_stream(fake: FakeAdapterServer) -> None:
    job = fake.add_job(SCRIPT, hold_after=2)

    async def read() -> list[int]:
        seen = []
        async with AsyncAdapterClient(fake.target, reconnect=FAST) as client:

            async def consume() -> None:
                async for event in client.watch(job.job_id):
                    seen.append(event.sequence)  # noqa: PERF401 - kept when the task is cancelled

            task = asyncio.create_task(consume())
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return seen

    assert asyncio.run(read()) == [1, 2]
    assert len(fake.requests("Watch")) == 1


def test_pointer_changes_are_followed_over_a_restart(client: AdapterClient, fake: FakeAdapterServer) -> None:
    client.train(SAMPLES).result()
    with client.watch_adapter("user_feedback") as changes:
        assert next(changes).active == "user_feedback_v1"
        fake.restart()
        client.rollback("user_feedback", reason="worse on my papers", actor="ana")
        change = next(changes)
        assert (change.active, change.pointer_revision, change.actor) == ("base", 2, "ana")
        assert changes.last_revision == 2
