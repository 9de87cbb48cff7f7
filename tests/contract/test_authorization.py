"""Who may do what: every RPC, asked by every role and by strangers, for adapters inside and outside the scope."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from lyra_adapters import AlreadyExists, NotFound, Unauthenticated
from lyra_adapters.v1 import adapter_service_pb2 as pb
from lyra_adapters.v1 import adapter_service_pb2_grpc as pb_grpc
from quick_server import COMMAND, Script, seed
from secured_server import OURS, SHARED_TASK, THEIRS, SecuredServer, refused, token
from tiny_base import rows


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredServer]:
    server = SecuredServer(tmp_path_factory.mktemp("secured"))
    yield server
    server.stop()


READ, TRAIN, OPERATE = range(3)
ROLES = ("read", "train", "operate")
PAIR = [pb.Pair(premise="p", hypothesis="h")]
ROW = pb.Sample(premise="p", hypothesis="h", correct_label=pb.LABEL_SUPPORTS)


@dataclass(frozen=True)
class Rpc:
    """A call, the least role that may make it, and how it ends for those who may."""

    name: str
    role: int
    request: Callable[[str, str], Any]
    code: str = "OK"
    # Whether the request names an adapter, or a job of one.
    scoped: bool = True


RPCS = [
    Rpc("Status", READ, lambda adapter, job: pb.StatusRequest(job_id=job)),
    Rpc("Status", READ, lambda adapter, job: pb.StatusRequest(), scoped=False),
    Rpc("Watch", READ, lambda adapter, job: pb.WatchRequest(job_id=job)),
    Rpc("WatchAdapter", READ, lambda adapter, job: pb.WatchAdapterRequest(adapter=adapter)),
    Rpc("List", READ, lambda adapter, job: pb.ListRequest(adapter=adapter)),
    Rpc("ListJobs", READ, lambda adapter, job: pb.ListJobsRequest(adapter=adapter)),
    Rpc("ListFeedback", READ, lambda adapter, job: pb.ListFeedbackRequest(used_by=adapter)),
    Rpc("ListFeedback", READ, lambda adapter, job: pb.ListFeedbackRequest(not_used_by=f"{adapter}_v1")),
    Rpc("Classify", READ, lambda adapter, job: pb.ClassifyRequest(adapter=adapter, pairs=PAIR)),
    Rpc("Classify", READ, lambda adapter, job: pb.ClassifyRequest(adapter=adapter, version="base", pairs=PAIR)),
    Rpc("Report", READ, lambda adapter, job: pb.ReportRequest(adapter=adapter, version="v1")),
    Rpc("Download", READ, lambda adapter, job: pb.DownloadRequest(adapter=adapter)),
    # One row is too few: nothing is trained.
    Rpc("Train", TRAIN, lambda adapter, job: pb.TrainRequest(adapter=adapter, samples=[ROW]), "FAILED_PRECONDITION"),
    # The job has ended.
    Rpc("Cancel", TRAIN, lambda adapter, job: pb.CancelRequest(job_id=job), "FAILED_PRECONDITION"),
    Rpc(
        "RecordFeedback", TRAIN, lambda a, job: pb.RecordFeedbackRequest(reviews=[pb.Review(sample=ROW)]), scoped=False
    ),
    # What is in force already.
    Rpc("Activate", OPERATE, lambda adapter, job: pb.ActivateRequest(adapter=adapter, version="v1")),
    Rpc("Rollback", OPERATE, lambda adapter, job: pb.RollbackRequest(adapter=adapter, to_version="v1")),
    # It is in force.
    Rpc(
        "DeleteVersion",
        OPERATE,
        lambda adapter, job: pb.DeleteVersionRequest(adapter=adapter, version="v1"),
        "FAILED_PRECONDITION",
    ),
    Rpc("DeleteFeedback", OPERATE, lambda adapter, job: pb.DeleteFeedbackRequest(task_ids=["none"]), scoped=False),
]


def ids(rpc: Rpc) -> str:
    return rpc.name


def request(secured: SecuredServer, rpc: Rpc, adapter: str) -> Any:
    return rpc.request(adapter, secured.jobs.get(adapter, str(uuid.uuid4())))


def test_the_matrix_has_every_rpc() -> None:
    assert {rpc.name for rpc in RPCS} == {m.name for m in pb.DESCRIPTOR.services_by_name["AdapterService"].methods}


@pytest.mark.parametrize("rpc", RPCS, ids=ids)
@pytest.mark.parametrize("role", range(3), ids=ROLES)
def test_roles(secured: SecuredServer, rpc: Rpc, role: int) -> None:
    bearer = token(f"a.{ROLES[role]}")
    inside = secured.ask(rpc.name, request(secured, rpc, OURS), bearer)
    outside = secured.ask(rpc.name, request(secured, rpc, THEIRS), bearer)
    absent = secured.ask(rpc.name, request(secured, rpc, "team_b_none"), bearer)
    if role < rpc.role:
        # Before it is looked whether there is what is asked for.
        for answer in (inside, outside, absent):
            assert (answer.code, answer.reason) == ("PERMISSION_DENIED", "ROLE_TOO_LOW")
            assert f"needs the role {ROLES[rpc.role]}" in answer.message
        return
    assert inside.code == rpc.code, inside.message
    if not rpc.scoped:
        return
    assert outside.code == absent.code == "NOT_FOUND"
    assert outside.reason == absent.reason
    if not isinstance(request(secured, rpc, OURS), (pb.StatusRequest, pb.WatchRequest, pb.CancelRequest)):
        assert outside.message == absent.message.replace("team_b_none", THEIRS)
    # Those who may see it do.
    assert secured.ask(rpc.name, request(secured, rpc, THEIRS), token("root")).code == rpc.code


@pytest.mark.parametrize("rpc", RPCS, ids=ids)
@pytest.mark.parametrize(
    ("bearer", "certificate", "code", "reason"),
    [
        (None, "client", "UNAUTHENTICATED", "CERTIFICATE_UNKNOWN"),
        ("lyra_wrong", "client", "UNAUTHENTICATED", "TOKEN_UNKNOWN"),
        ("lyra_wrong", "certified", "UNAUTHENTICATED", "TOKEN_UNKNOWN"),
        ("", "client", "UNAUTHENTICATED", "TOKEN_MALFORMED"),
        ("lyra_late", "client", "UNAUTHENTICATED", "TOKEN_EXPIRED"),
        # No connection comes about.
        ("lyra_root", "expired", "UNAVAILABLE", ""),
        ("lyra_root", None, "UNAVAILABLE", ""),
    ],
    ids=[
        "no token",
        "wrong token",
        "wrong token, good certificate",
        "empty",
        "expired token",
        "expired certificate",
        "no certificate",
    ],
)
def test_strangers(
    secured: SecuredServer, rpc: Rpc, bearer: str | None, certificate: str | None, code: str, reason: str
) -> None:
    for adapter in (OURS, "team_b_none"):
        answer = secured.ask(rpc.name, request(secured, rpc, adapter), bearer, certificate)
        assert (answer.code, answer.reason) == (code, reason), answer.message


@pytest.mark.parametrize("rpc", RPCS, ids=ids)
def test_a_certificate_in_the_place_of_a_token(secured: SecuredServer, rpc: Rpc) -> None:
    assert secured.ask(rpc.name, request(secured, rpc, OURS), None, "certified").code == rpc.code
    if rpc.scoped:
        assert secured.ask(rpc.name, request(secured, rpc, THEIRS), None, "certified").code == "NOT_FOUND"


def test_an_expired_certificate_of_the_server(
    secured: SecuredServer, tmp_path: Path, start_server: Callable[..., Any]
) -> None:
    cert, key = secured.certificates.issue("old-server", expired=True)
    server = start_server("--tls-cert", str(cert), "--tls-key", str(key), command=COMMAND, base="tiny")
    credentials = grpc.ssl_channel_credentials(secured.certificates.ca.read_bytes())
    with grpc.secure_channel(server.address, credentials) as channel:
        with pytest.raises(grpc.RpcError) as error:
            pb_grpc.AdapterServiceStub(channel).Status(pb.StatusRequest(), timeout=10)
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE


def test_strangers_bytes_are_not_read(secured: SecuredServer) -> None:
    raw = secured.channel().unary_unary("/lyra_adapters.v1.AdapterService/Status")
    for bearer, code in ((None, "UNAUTHENTICATED"), (token("a.read"), "INVALID_ARGUMENT")):
        metadata = [("authorization", f"Bearer {bearer}")] if bearer else []
        with pytest.raises(grpc.RpcError) as error:
            raw(b"\xff\xff\xff", metadata=metadata, timeout=10)
        assert refused(error.value).code == code


def test_health_is_free_and_reflection_is_not(secured: SecuredServer) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    health = health_pb2_grpc.HealthStub(secured.channel())
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == health_pb2.HealthCheckResponse.SERVING

    reflection = reflection_pb2_grpc.ServerReflectionStub(secured.channel())
    ask = [reflection_pb2.ServerReflectionRequest(list_services="")]
    with pytest.raises(grpc.RpcError) as error:
        list(reflection.ServerReflectionInfo(iter(ask), timeout=10))
    assert refused(error.value).code == "UNAUTHENTICATED"
    metadata = [("authorization", f"Bearer {token('a.read')}")]
    (answer,) = reflection.ServerReflectionInfo(iter(ask), metadata=metadata, timeout=10)
    assert "lyra_adapters.v1.AdapterService" in [one.name for one in answer.list_services_response.service]


# ---------------------------------------------------------------------------------------------- what is to be seen


def test_listings_leave_out_what_is_outside(secured: SecuredServer) -> None:
    for ask in (pb.ListRequest(), pb.ListRequest(task_id=SHARED_TASK)):
        answer = secured.ask("List", ask, token("a.read")).response
        assert {version.adapter for version in answer.versions} == {OURS}
        assert answer.total_size == len(answer.versions)
        assert {v.adapter for v in secured.ask("List", ask, token("root")).response.versions} == {OURS, THEIRS}
    for jobs in (pb.ListJobsRequest(), pb.ListJobsRequest(task_id=SHARED_TASK)):
        answer = secured.ask("ListJobs", jobs, token("a.read")).response
        assert {job.adapter for job in answer.jobs} == {OURS}
        assert answer.total_size == len(answer.jobs)
    status = secured.ask("Status", pb.StatusRequest(), token("a.read")).response.service
    assert [adapter.adapter for adapter in status.adapters] == [OURS]
    assert status.base_models


def test_a_task_s_adapters_are_those_inside(secured: SecuredServer) -> None:
    ask = pb.RollbackRequest(task_id=SHARED_TASK, to_version="v1")
    several = secured.ask("Rollback", ask, token("root"))
    assert (several.code, several.reason) == ("FAILED_PRECONDITION", "SEVERAL_ADAPTERS")
    assert OURS in several.message
    assert THEIRS in several.message
    assert secured.ask("Rollback", ask, token("a.operate")).response.change.adapter == OURS
    nobody = secured.ask("Rollback", pb.RollbackRequest(task_id="no-such-task"), token("a.operate"))
    assert nobody.reason == "TASK_NOT_FOUND"


def test_parents_outside_do_not_exist(secured: SecuredServer) -> None:
    found = []
    for parent in (f"{THEIRS}_v1", f"{THEIRS}_v9", f"{OURS}_v9"):
        ask = pb.TrainRequest(adapter=OURS, samples=[ROW], continue_from=parent, trigger=pb.TriggerPolicy(force=True))
        answer = secured.ask("Train", ask, token("a.train"))
        assert (answer.code, answer.reason) == ("NOT_FOUND", "VERSION_NOT_FOUND")
        found.append(answer.message.replace(parent, ""))
    assert len(set(found)) == 1


def test_the_default_adapter_is_outside_too(secured: SecuredServer) -> None:
    for rpc, ask in (("Train", pb.TrainRequest(samples=[ROW])), ("Classify", pb.ClassifyRequest(pairs=PAIR))):
        answer = secured.ask(rpc, ask, token("a.operate"))
        assert (answer.code, answer.reason) == ("NOT_FOUND", "ADAPTER_NOT_FOUND")
        assert "'user_feedback'" in answer.message
        assert "team_a_*" in answer.message


def test_waiting_jobs_of_others_count_but_are_not_named(secured: SecuredServer) -> None:
    with secured.client("a.operate") as ours, secured.client("b.operate") as theirs:
        slow = {"trigger": {"force": True}, "training": {"seed": seed(500, Script.STAYS)}}
        running = theirs.train(rows(60), adapter=THEIRS, **slow)
        next(iter(running))
        waiting = theirs.train(rows(60), adapter=THEIRS, **slow)
        next(iter(waiting))
        mine = ours.train(rows(60), adapter=OURS, **slow)
        first = next(iter(mine))
        assert first.event.position >= 2
        status = ours.status()
        assert [job.adapter for job in status.queued_jobs] == [OURS]
        assert status.queued_jobs[0].queue_position == first.event.position
        assert THEIRS not in str(status)
        for job in (waiting.job_id, running.job_id):
            with pytest.raises(NotFound):
                ours.cancel(job)
        ours.cancel(mine.job_id)
        for job in (waiting.job_id, running.job_id):
            theirs.cancel(job)
        for stream in (running, waiting, mine):
            stream.close()


# -------------------------------------------------------------------------------------------------------- feedback


def test_reviews_are_their_principal_s_own(secured: SecuredServer) -> None:
    def reviews(label: int, premise: str) -> pb.RecordFeedbackRequest:
        sample = pb.Sample(id="same-id", premise=premise, hypothesis="h", correct_label=label, original_label=1)
        return pb.RecordFeedbackRequest(reviews=[pb.Review(sample=sample, task_id="same-task", domain="secret-domain")])

    def listed(name: str, **ask: Any) -> list[tuple[str, str]]:
        answer = secured.ask(
            "ListFeedback", pb.ListFeedbackRequest(task_ids=["same-task"], **ask), token(name)
        ).response
        return sorted((one.review.sample.id, one.review.sample.premise) for one in answer.reviews)

    assert secured.ask("RecordFeedback", reviews(1, "of a"), token("a.train")).response.stored == 1
    # Not a revision of a's: b's ids are its own, and tell nothing of a's.
    assert secured.ask("RecordFeedback", reviews(2, "of b"), token("b.operate")).response.stored == 1
    assert secured.ask("RecordFeedback", reviews(3, "of root"), token("root")).response.stored == 1
    assert listed("a.read") == [("same-id", "of a")]
    assert listed("a.operate") == [("same-id", "of a")]
    assert listed("b.operate") == [("same-id", "of b")]
    assert [premise for _, premise in listed("root")] == ["of a", "of b", "of root"]
    summary = secured.ask(
        "ListFeedback", pb.ListFeedbackRequest(include_summary=True), token("b.operate")
    ).response.summary
    assert summary.reviews == 1
    assert [count.name for count in summary.tasks] == ["same-task"]

    # The same pair, reviewed by the other: superseded only for who sees both.
    assert secured.ask("RecordFeedback", reviews(2, "of a"), token("b.operate")).response.revised == 1
    (row,) = secured.ask(
        "ListFeedback", pb.ListFeedbackRequest(task_ids=["same-task"]), token("a.read")
    ).response.reviews
    assert not row.superseded
    for name, count in (("a.read", 1), ("b.operate", 1)):
        status = secured.ask("Status", pb.StatusRequest(), token(name)).response.service
        assert {adapter.training_due.have_samples for adapter in status.adapters} <= {count, count + 1}


def test_training_from_feedback_takes_one_s_own(secured: SecuredServer) -> None:
    reviews = [
        pb.Review(sample=pb.Sample(premise=f"only b's {n}", hypothesis="h", correct_label=1 + n % 3), task_id="of-b")
        for n in range(30)
    ]
    assert secured.ask("RecordFeedback", pb.RecordFeedbackRequest(reviews=reviews), token("b.operate")).code == "OK"
    source = pb.FeedbackSource(task_ids=["of-b"])
    force = pb.TriggerPolicy(force=True)
    ours = secured.ask("Train", pb.TrainRequest(adapter=OURS, feedback=source, trigger=force), token("a.train"))
    assert (ours.code, ours.reason) == ("FAILED_PRECONDITION", "NOT_ENOUGH_SAMPLES")
    assert "have 0" in ours.message
    with secured.client("b.operate") as client:
        client.train(
            feedback={"task_ids": ["of-b"]}, adapter=THEIRS, training={"epochs": 1}, trigger={"force": True}
        ).result()
    listed = secured.ask("ListFeedback", pb.ListFeedbackRequest(task_ids=["of-b"]), token("root")).response
    assert {name.rpartition("_v")[0] for review in listed.reviews for name in review.used_by} == {THEIRS}


# ---------------------------------------------------------------------------------------------- whose calls they are


def test_request_ids_are_each_principal_s_own(secured: SecuredServer) -> None:
    request_id = str(uuid.uuid4())
    quick = {"training": {"epochs": 1}, "trigger": {"force": True}, "request_id": request_id}
    with secured.client("a.train") as a, secured.client("b.operate") as b, secured.client("a.operate") as again:
        one = a.train(rows(60), adapter=OURS, **quick)
        one.result()
        other = b.train(rows(60), adapter=THEIRS, **quick)
        other.result()
        assert one.job_id != other.job_id
        # The same principal, with another of its tokens.
        retry = again.train(rows(60), adapter=OURS, **quick)
        retry.result()
        assert retry.job_id == one.job_id
        with pytest.raises(AlreadyExists):
            again.train(rows(61), adapter=OURS, **quick).result()


def test_a_stream_ends_when_its_token_does(secured: SecuredServer) -> None:
    before = secured.tokens_file.read_text()
    with secured.client("b.operate") as client:
        slow = {"trigger": {"force": True}, "training": {"seed": seed(500, Script.STAYS)}}
        stream = client.train(rows(60), adapter=THEIRS, **slow)
        next(iter(stream))
        kept = before.split("[[token]]\n")
        try:
            secured.tokens_file.write_text("[[token]]\n".join(p for p in kept if 'principal = "b"' not in p))
            with pytest.raises(Unauthenticated) as error:
                stream.result()
            assert error.value.reason in ("ACCESS_ENDED", "TOKEN_UNKNOWN")
            secured.process.wait_for_log("tokens_loaded")
        finally:
            secured.tokens_file.write_text(before)
        # The job went on without it.
        client.cancel(stream.job_id)


def test_audit_lines(secured: SecuredServer) -> None:
    job = secured.jobs[OURS]
    secured.ask(
        "Rollback", pb.RollbackRequest(adapter=OURS, to_version="v1", actor="said-to-be-eve"), token("a.operate")
    )
    secured.ask("Rollback", pb.RollbackRequest(adapter=OURS), token("a.train"))
    secured.ask("Status", pb.StatusRequest(job_id=secured.jobs[THEIRS]), token("a.read"))
    secured.ask("Cancel", pb.CancelRequest(job_id=job), token("a.train"))
    secured.ask("List", pb.ListRequest(adapter=OURS), token("a.read"))
    secured.ask("List", pb.ListRequest(adapter=OURS), "lyra_wrong")
    deadline = time.monotonic() + 10
    while not any(line["reason"] == "TOKEN_UNKNOWN" for line in secured.audit()[-1:] if "reason" in line):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    told_job = secured.ask("Status", pb.StatusRequest(job_id=job), token("a.read")).response.job
    history = secured.ask("List", pb.ListRequest(adapter=OURS, include_history=True), token("a.read")).response.history
    assert (told_job.principal, history[-1].principal) == ("root", "root")
    lines = secured.audit()[-5:]
    told = [{k: v for k, v in line.items() if k not in ("event", "timestamp", "level", "peer")} for line in lines]
    assert told == [
        {
            "principal": "a",
            "role": "operate",
            "rpc": "Rollback",
            "adapter": OURS,
            # Of the change that stands: nothing moved.
            "job_id": job,
            "actor": "said-to-be-eve",
            "code": "OK",
        },
        {
            "principal": "a",
            "role": "train",
            "rpc": "Rollback",
            "adapter": OURS,
            "code": "PERMISSION_DENIED",
            "reason": "ROLE_TOO_LOW",
        },
        {
            "principal": "a",
            "role": "read",
            "rpc": "Status",
            "job_id": secured.jobs[THEIRS],
            "code": "NOT_FOUND",
            "reason": "JOB_NOT_FOUND",
        },
        {
            "principal": "a",
            "role": "train",
            "rpc": "Cancel",
            "job_id": job,
            "code": "FAILED_PRECONDITION",
            "reason": "JOB_FINISHED",
        },
        {"principal": "", "role": "", "rpc": "List", "code": "UNAUTHENTICATED", "reason": "TOKEN_UNKNOWN"},
    ]
    assert all(line["peer"].startswith("ipv4:127.0.0.1:") for line in lines)
    trained = [line for line in secured.audit() if line["rpc"] == "Train" and line["code"] == "OK"]
    assert {(line["principal"], line["adapter"], line["job_id"]) for line in trained} >= {
        ("root", OURS, secured.jobs[OURS]),
        ("root", THEIRS, secured.jobs[THEIRS]),
    }


def test_no_token_is_ever_logged(secured: SecuredServer) -> None:
    log = "\n".join(secured.process.lines)
    assert "audit" in log
    assert "lyra_" not in log.replace("lyra_adapters", "")
