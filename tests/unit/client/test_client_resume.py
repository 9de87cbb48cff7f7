"""The plan of a stream, without a network and without a clock."""

from typing import Any

import grpc
import pytest
from lyra_adapters import (
    AdapterError,
    DataLoss,
    DeadlineExceeded,
    NotFound,
    Reconnect,
    ReconnectPolicy,
    ResourceExhausted,
    ServerFault,
    Unavailable,
)
from lyra_adapters.download_plan import BytesPlan
from lyra_adapters.resume import JobPlan, PointerPlan
from lyra_adapters.v1 import adapter_service_pb2 as pb

REQUEST = pb.TrainRequest(request_id="11111111-1111-4111-8111-111111111111")
GONE = Unavailable("Socket closed")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def plan(start: Any = REQUEST, clock: Clock | None = None, heartbeats: bool = False, **options: Any) -> JobPlan:
    policy = ReconnectPolicy(initial=1, factor=2, maximum=10, jitter=0.5, connect_within=30, give_up_after=600)
    return JobPlan(
        start,
        policy,
        heartbeats=heartbeats,
        clock=clock or Clock(),
        chance=options.pop("chance", lambda: 0.0),
        **options,
    )


def queued(sequence: int) -> pb.TrainEvent:
    return pb.TrainEvent(job_id="job", sequence=sequence, queued=pb.Queued())


def test_train_is_sent_again_until_the_job_is_known_and_then_watched() -> None:
    job = plan()
    assert job.next_call() == ("Train", REQUEST)
    job.broke(GONE)
    assert job.next_call() == ("Train", REQUEST)
    job.feed(queued(1))
    job.broke(GONE)
    assert job.next_call() == ("Watch", pb.WatchRequest(job_id="job", after_sequence=1))


def test_what_was_seen_is_not_given_again() -> None:
    job = plan()
    assert [job.feed(queued(n)) is not None for n in (1, 2, 1, 2, 3)] == [True, True, False, False, True]


def test_a_gap_is_not_passed_over() -> None:
    job = plan()
    job.feed(queued(1))
    with pytest.raises(DataLoss) as gap:
        job.feed(queued(3))
    for _ in range(3):
        job.broke(gap.value)
        assert job.next_call()[1].after_sequence == 1
    with pytest.raises(DataLoss):
        job.broke(gap.value)


def test_waits_grow_to_a_limit_and_start_again_after_contact() -> None:
    job = plan()
    job.feed(queued(1))
    assert [job.broke(GONE) for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    job.feed(queued(2))
    assert job.broke(GONE) == 1


def test_chance_shortens_waits() -> None:
    job = plan(chance=lambda: 0.999)
    job.feed(queued(1))
    assert job.broke(GONE) == pytest.approx(0.5, abs=0.01)


def test_the_servers_wish_to_wait_longer_is_followed() -> None:
    job = plan()
    job.feed(queued(1))
    assert job.broke(Unavailable("busy", retry_after=25)) == 25


def test_a_server_never_reached_is_given_up_soon() -> None:
    clock = Clock()
    job = plan(clock=clock)
    job.broke(GONE)
    clock.now += 31
    with pytest.raises(Unavailable):
        job.broke(GONE)


def test_a_server_that_still_loads_its_model_is_waited_for() -> None:
    clock = Clock()
    job = plan(clock=clock)
    loading = Unavailable("loading", reason="BASE_MODEL_NOT_READY")
    clock.now += 599
    assert job.broke(loading) == pytest.approx(1)
    clock.now += 2
    with pytest.raises(Unavailable):
        job.broke(loading)


def test_ten_minutes_without_contact_end_it_and_heartbeats_are_contact() -> None:
    clock = Clock()
    job = plan(clock=clock)
    job.feed(queued(1))
    clock.now += 500
    assert job.feed(pb.TrainEvent(job_id="job", heartbeat=pb.Heartbeat())) is None
    clock.now += 500
    job.broke(GONE)
    clock.now += 101
    with pytest.raises(Unavailable):
        job.broke(GONE)


def test_heartbeats_are_given_where_asked_for() -> None:
    job = plan(heartbeats=True)
    event = job.feed(pb.TrainEvent(job_id="job", heartbeat=pb.Heartbeat()))
    assert event is not None
    assert event.kind == "heartbeat"


def test_refusals_are_final() -> None:
    job = plan()
    for error in (NotFound("no"), ResourceExhausted("full"), ServerFault("bug", reason="INTERNAL_FAULT")):
        with pytest.raises(type(error)):
            job.broke(error)


def test_a_full_server_that_says_when_to_come_back_is_asked_again() -> None:
    assert plan().broke(ResourceExhausted("full", retry_after=5)) == 5


def test_unclear_errors_get_few_tries() -> None:
    job = plan()
    for error in (None, ServerFault("reset"), AdapterError("x", code=grpc.StatusCode.CANCELLED)):
        job.broke(error)
    with pytest.raises(ServerFault):
        job.broke(ServerFault("reset"))


def test_a_deadline_of_the_call_goes_on_and_the_streams_own_ends_it() -> None:
    clock = Clock()
    job = plan(clock=clock, timeout=60)
    job.feed(queued(1))
    assert job.remaining() == 60
    clock.now += 40
    job.broke(DeadlineExceeded("proxy"))
    assert job.remaining() == 20
    clock.now += 20
    with pytest.raises(DeadlineExceeded):
        job.broke(GONE)


def test_callers_hear_of_each_break() -> None:
    heard: list[Reconnect] = []
    job = plan(on_reconnect=heard.append)
    job.broke(GONE)
    job.broke(GONE)
    assert [(r.error, r.wait, r.attempt) for r in heard] == [(GONE, 1, 1), (GONE, 2, 2)]


def test_never_reconnecting_is_possible() -> None:
    job = JobPlan(REQUEST, ReconnectPolicy(give_up_after=0), heartbeats=False)
    with pytest.raises(Unavailable):
        job.broke(GONE)


def pointer(**start: Any) -> PointerPlan:
    request = pb.WatchAdapterRequest(adapter="a", **start)
    return PointerPlan(request, ReconnectPolicy(), heartbeats=False, clock=Clock(), chance=lambda: 0.0)


def change(revision: int) -> pb.PointerChange:
    return pb.PointerChange(adapter="a", pointer_revision=revision, active=f"a_v{revision}")


def test_changes_are_taken_up_from_the_last_one_seen() -> None:
    changes = pointer(after_revision=2, wait_for_adapter=True)
    assert changes.feed(change(3)) is not None
    assert changes.feed(change(3)) is None
    changes.broke(GONE)
    wanted = pb.WatchAdapterRequest(adapter="a", after_revision=3, wait_for_adapter=True)
    assert changes.next_call() == ("WatchAdapter", wanted)


def test_a_gap_between_changes_is_not_passed_over() -> None:
    changes = pointer()
    changes.feed(change(1))
    with pytest.raises(DataLoss, match="Change 3 of a came after change 1"):
        changes.feed(change(3))


def test_a_heartbeat_is_no_change_but_contact() -> None:
    changes = pointer()
    assert changes.feed(pb.PointerChange(adapter="a", heartbeat=True)) is None
    assert changes.last_revision == 0
    heard = PointerPlan(pb.WatchAdapterRequest(adapter="a"), ReconnectPolicy(), heartbeats=True)
    beat = heard.feed(pb.PointerChange(adapter="a", heartbeat=True))
    assert beat is not None
    assert beat.heartbeat


def test_a_download_that_breaks_before_each_byte_is_given_up() -> None:
    clock = Clock()
    policy = ReconnectPolicy(initial=1, maximum=10, jitter=0, connect_within=30, give_up_after=60)
    request = pb.DownloadRequest(adapter="a", version="v1", file="f")
    download = BytesPlan(request, 10, policy, clock=clock, chance=lambda: 0.0)
    assert download.feed(pb.DownloadResponse(offset=0, data=b"abc")) == b"abc"
    contents = pb.DownloadResponse(contents=pb.DownloadContents(adapter="a", version="v1"))

    def break_again_and_again() -> None:
        while clock.now < 200:
            download.feed(contents)
            clock.now += download.broke(GONE)

    with pytest.raises(Unavailable):
        break_again_and_again()
    assert clock.now <= 161
    assert download.next_call()[1].offset == 3


def test_bytes_that_do_not_follow_on_are_refused() -> None:
    download = BytesPlan(pb.DownloadRequest(file="f"), 10, ReconnectPolicy())
    for offset, data in ((1, b"a"), (0, b"x" * 11)):
        with pytest.raises(DataLoss):
            download.feed(pb.DownloadResponse(offset=offset, data=data))
    assert download.feed(pb.DownloadResponse(offset=0, data=b"x" * 10)) == b"x" * 10
    assert download.finished
