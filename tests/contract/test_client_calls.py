"""Over a real socket: the unary calls, their retries and deadlines, credentials and listings."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from lyra_adapters import (
    Aborted,
    AdapterClient,
    AsyncAdapterClient,
    DeadlineExceeded,
    FailedPrecondition,
    JobState,
    Label,
    LoraConfig,
    NotFound,
    PointerChangeKind,
    Sample,
    Unauthenticated,
    Unavailable,
    VersionState,
    errors,
)
from lyra_adapters.testing import FakeAdapterServer, training_script
from lyra_adapters.v1 import adapter_service_pb2 as pb

SAMPLE = Sample(premise="p", hypothesis="h", correct_label=Label.SUPPORTS)


@pytest.fixture
def fake() -> Iterator[FakeAdapterServer]:
    with FakeAdapterServer() as server:
        yield server


@pytest.fixture
def client(fake: FakeAdapterServer) -> Iterator[AdapterClient]:
    with AdapterClient(fake.target) as one:
        yield one


def publish(client: AdapterClient, fake: FakeAdapterServer, count: int) -> None:
    for number in range(1, count + 1):
        fake.script(training_script(version=f"v{number}"))
        client.train([SAMPLE], task_id=f"task-{number}").result()


def test_a_request_carries_what_was_asked(client: AdapterClient, fake: FakeAdapterServer) -> None:
    client.train(
        [SAMPLE, {"premise": "p2", "hypothesis": "h2", "label": "refutes", "group": "doc", "original_confidence": 1}],
        adapter="academic",
        task_id="t",
        actor="ana",
        domain="sleep",
        base_model="demo",
        lora=LoraConfig(rank=4, target_modules=("q_proj",)),
        training={"epochs": 2, "learning_rate": 1e-3},
        trigger={"min_samples": 1, "force": True},
        activation="manual",
        continue_from="base_nli_v1",
        conflicts="keep_newest",
        request_id="11111111-1111-4111-8111-111111111111",
    ).result()
    (request,) = fake.requests("Train")
    assert request == pb.TrainRequest(
        request_id="11111111-1111-4111-8111-111111111111",
        adapter="academic",
        task_id="t",
        actor="ana",
        domain="sleep",
        samples=[
            pb.Sample(premise="p", hypothesis="h", correct_label=pb.LABEL_SUPPORTS),
            pb.Sample(
                premise="p2",
                hypothesis="h2",
                correct_label=pb.LABEL_REFUTES,
                group="doc",
                original_confidence=1.0,
            ),
        ],
        base_model="demo",
        lora=pb.LoraConfig(rank=4, target_modules=["q_proj"]),
        training=pb.TrainingConfig(epochs=2, learning_rate=1e-3),
        trigger=pb.TriggerPolicy(min_samples=1, force=True),
        activation=pb.ACTIVATION_MANUAL,
        continue_from="base_nli_v1",
        conflicts=pb.CONFLICT_POLICY_KEEP_NEWEST,
    )


def test_feedback_is_an_other_source(client: AdapterClient, fake: FakeAdapterServer) -> None:
    client.train(feedback=True).result()
    client.train(feedback={"task_ids": ["a"], "only_new": True}).result()
    everything, some = fake.requests("Train")
    assert everything.HasField("feedback")
    assert not everything.samples
    assert some.feedback == pb.FeedbackSource(task_ids=["a"], only_new=True)


def test_looking_around(client: AdapterClient, fake: FakeAdapterServer) -> None:
    publish(client, fake, 3)
    service = client.status()
    assert [(a.adapter, a.active, a.pointer_revision) for a in service.adapters] == [
        ("user_feedback", "user_feedback_v3", 3)
    ]
    page = client.list("user_feedback", page_size=2, include_history=True)
    assert [version.version for version in page.items] == ["v3", "v2"]
    assert (page.total_size, len(page.history)) == (3, 3)
    assert [v.state for v in client.versions(page_size=1)] == [
        VersionState.ACTIVE,
        VersionState.RETIRED,
        VersionState.RETIRED,
    ]
    assert [v.version for v in client.versions(states=["active"])] == ["v3"]
    jobs = list(client.jobs(page_size=2, states=[JobState.SUCCEEDED]))
    assert [job.version for job in jobs] == ["user_feedback_v3", "user_feedback_v2", "user_feedback_v1"]
    assert client.job(jobs[0].job_id).task_id == "task-3"
    with pytest.raises(NotFound):
        client.job("nothing")
    with pytest.raises(errors.InvalidArgument):
        client.job("")


def test_moving_the_pointer(client: AdapterClient, fake: FakeAdapterServer) -> None:
    publish(client, fake, 2)
    with pytest.raises(Aborted):
        client.rollback("user_feedback", expected_active="v1")
    move = client.rollback("user_feedback", reason="why", actor="ana", expected_active="v2")
    assert move.changed
    assert (move.change.active, move.change.kind) == ("user_feedback_v1", PointerChangeKind.ROLLED_BACK)
    assert client.rollback("user_feedback").change.active == "base"
    with pytest.raises(FailedPrecondition) as caught:
        client.rollback("user_feedback")
    assert caught.value.reason == "NOTHING_TO_ROLL_BACK"
    assert client.activate("user_feedback", "v2").change.active == "user_feedback_v2"
    assert client.rollback(task_id="task-1", to_version="base").change.active == "base"
    ids = [request.request_id for request in fake.requests("Rollback")]
    assert all(ids)
    assert len(set(ids)) == len(ids)


def test_cancelling_a_job(client: AdapterClient, fake: FakeAdapterServer) -> None:
    job = fake.add_job(hold_after=2)
    assert client.cancel(job.job_id, actor="ana").state is JobState.CANCELLED
    assert [event.kind for event in client.watch(job.job_id)][-1] == "cancelled"
    with pytest.raises(FailedPrecondition):
        client.cancel(job.job_id)


def test_using_a_version(client: AdapterClient, fake: FakeAdapterServer) -> None:
    pairs = [("p", "h"), {"premise": "p", "hypothesis": "h"}]
    answer = client.classify(pairs, version="base")
    assert [(r.label, r.probabilities.supports) for r in answer.results] == [(Label.SUPPORTS, 0.7)] * 2
    assert answer.version == "base"
    receipt = client.record_feedback([{"sample": SAMPLE, "task_id": "t"}], actor="ana")
    assert (receipt.stored, len(receipt.ids)) == (1, 1)
    assert fake.requests("RecordFeedback")[0].reviews[0].task_id == "t"
    assert [found.review.task_id for found in client.feedback(task_ids=["t"])] == ["t"]
    assert client.list_feedback(task_ids=["other"]).total_size == 0
    assert client.feedback_summary(used_by="user_feedback_v1").reviews == 1
    assert fake.requests("ListFeedback")[-1].used_by == "user_feedback_v1"


def test_many_reviews_go_in_pages_and_errors_name_the_callers_places(
    client: AdapterClient, fake: FakeAdapterServer
) -> None:
    row = {"premise": "p", "hypothesis": "h", "correct_label": "SUPPORTS"}
    reviews = [{"sample": {**row, "id": str(n)}} for n in range(2_500)]
    receipt = client.record_feedback(reviews)
    assert (receipt.stored, receipt.ids) == (2_500, tuple(str(n) for n in range(2_500)))
    assert [len(request.reviews) for request in fake.requests("RecordFeedback")] == [1000, 1000, 500]
    assert client.record_feedback(reviews).unchanged == 2_500
    assert sum(1 for _ in client.feedback(page_size=1000)) == 2_500
    long = [{"sample": {**row, "id": str(n), "premise": "x" * 20_000}} for n in range(1_000)]
    assert client.record_feedback(long).revised == 1_000
    assert max(request.ByteSize() for request in fake.requests("RecordFeedback")) < 9 * 2**20
    before = len(fake.requests("RecordFeedback"))
    with pytest.raises(errors.InvalidArgument) as refused:
        client.record_feedback([*reviews, {"sample": {**row, "premise": 3}}])
    assert refused.value.violations[0].field == "reviews[2500].sample.premise"
    assert len(fake.requests("RecordFeedback")) == before


@pytest.mark.parametrize("call", ["status", "list", "list_jobs", "list_feedback"])
def test_calls_that_change_nothing_are_retried(client: AdapterClient, fake: FakeAdapterServer, call: str) -> None:
    rpc = {"status": "Status", "list": "List", "list_jobs": "ListJobs", "list_feedback": "ListFeedback"}[call]
    fake.fail_next(rpc, grpc.StatusCode.UNAVAILABLE, times=2)
    getattr(client, call)()
    assert len(fake.requests(rpc)) == 3
    assert len({received.metadata["x-request-id"] for received in fake.received}) == 1


def test_calls_that_change_something_are_not(client: AdapterClient, fake: FakeAdapterServer) -> None:
    fake.fail_next("Rollback", grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(Unavailable):
        client.rollback("user_feedback")
    assert len(fake.requests("Rollback")) == 1


def test_deadlines_of_the_client_and_of_a_call(fake: FakeAdapterServer) -> None:
    fake.answer("Status", lambda request: time.sleep(0.5) or pb.StatusResponse())
    with AdapterClient(fake.target, timeout=0.1) as client:
        with pytest.raises(DeadlineExceeded):
            client.status()
        assert client.status(timeout=5).version == ""


def test_every_status_arrives_as_its_exception(client: AdapterClient, fake: FakeAdapterServer) -> None:
    async def asked() -> None:
        async with AsyncAdapterClient(fake.target) as aio:
            await aio.cancel("x")

    for code, kind in errors.BY_CODE.items():
        fake.fail_next(
            "Cancel", code, "m", times=2, reason="WHY", metadata={"have": "1"}, violations={"job_id": "is bad"}
        )
        for ask in (lambda: client.cancel("x"), lambda: asyncio.run(asked())):
            with pytest.raises(kind) as caught:
                ask()
            assert (caught.value.reason, caught.value.code) == ("WHY", code)
            assert caught.value.violations[0].field == "job_id"


def test_large_requests_pass(client: AdapterClient, fake: FakeAdapterServer) -> None:
    rows = [{"premise": "x" * 16_000, "hypothesis": "h", "label": "neutral"}] * 1_000
    client.train(rows).result()
    assert len(fake.requests("Train")[0].samples) == 1_000


def test_a_token_over_loopback(fake: FakeAdapterServer, tmp_path: Path) -> None:
    fake.token = "secret"
    file = tmp_path / "token"
    file.write_text("secret\n")
    with AdapterClient(fake.target) as client, pytest.raises(Unauthenticated):
        client.status()
    with AdapterClient(fake.target, token_file=file) as client:
        client.status()

    async def ask() -> None:
        async with AsyncAdapterClient(fake.target, token="secret") as client:
            await client.status()

    asyncio.run(ask())


def test_asyncio_listings(fake: FakeAdapterServer, client: AdapterClient) -> None:
    publish(client, fake, 2)

    async def look() -> tuple[list[str], list[str], str]:
        async with AsyncAdapterClient(fake.target) as aio:
            versions = [version.version async for version in aio.versions(page_size=1)]
            jobs = [job.version async for job in aio.jobs(page_size=1)]
            move = await aio.rollback("user_feedback")
            return versions, jobs, move.change.active

    assert asyncio.run(look()) == (["v2", "v1"], ["user_feedback_v2", "user_feedback_v1"], "user_feedback_v1")
