"""Random and malformed requests over every RPC: each is refused as the caller's fault or carried out, none breaks it.

`FUZZ_REQUESTS=21500` (what `make fuzz` says) sets how many are sent in all, a few less: there is but one empty message.
With `UPDATE_DOCS=1` the table goes to docs/results/fuzz.md. The server is real but for its trainer (quick_server.py).
"""

from __future__ import annotations

import os
import random
import socket
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status import rpc_status
from hypothesis import HealthCheck, Phase, given, settings
from lyra_adapters.v1 import adapter_service_pb2 as pb
from quick_server import COMMAND, seed
from random_requests import malformed, nearly_right, well_formed
from server_process import ServerProcess
from train_requests import train_request

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "2400"))
TABLE = Path(__file__).parents[2] / "docs" / "results" / "fuzz.md"

SERVICES = [
    pb.DESCRIPTOR.services_by_name["AdapterService"],
    health_pb2.DESCRIPTOR.services_by_name["Health"],
    reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
]
METHODS: list[MethodDescriptor] = [method for service in SERVICES for method in service.methods]
OURS = SERVICES[0].full_name
# What a random request may be answered with. Not INTERNAL, not UNKNOWN.
FITTING = {
    "OK",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "RESOURCE_EXHAUSTED",
    "UNIMPLEMENTED",
    "UNAVAILABLE",
}

answers: dict[str, Counter[str]] = defaultdict(Counter)
sent: Counter[str] = Counter()


def examples(job_id: str) -> dict[str, list[Any]]:
    """Requests that are carried out, by type; a method that is not among them is met with random ones alone."""
    pair = {"premise": "p", "hypothesis": "h"}
    review = pb.Review(sample=pb.Sample(**pair, correct_label=pb.LABEL_REFUTES), task_id="a task")
    training = pb.TrainingConfig(epochs=1, seed=seed(100))
    recorded = pb.TrainRequest(adapter="fuzzed", trigger={"force": True}, training=training)
    recorded.feedback.SetInParent()
    sent = train_request("fuzzed", 20, epochs=1, trigger={"force": True})
    requests = [
        sent,
        recorded,
        pb.WatchRequest(job_id=job_id),
        pb.StatusRequest(job_id=job_id),
        pb.ListRequest(adapter="fuzzed", include_history=True),
        pb.ListJobsRequest(adapter="fuzzed"),
        pb.RollbackRequest(adapter="fuzzed"),
        pb.RollbackRequest(task_id="a task", to_version="base"),
        pb.ActivateRequest(adapter="fuzzed", version="v1"),
        pb.CancelRequest(job_id=job_id),
        pb.ClassifyRequest(adapter="fuzzed", pairs=[pair]),
        pb.RecordFeedbackRequest(reviews=[review]),
        pb.ListFeedbackRequest(include_summary=True),
        pb.WatchAdapterRequest(adapter="fuzzed"),
        pb.DownloadRequest(adapter="fuzzed", version="v1"),
    ]
    found: dict[str, list[Any]] = defaultdict(list)
    for request in requests:
        found[request.DESCRIPTOR.full_name].append(request)
    return found


class Target:
    """The server under fire."""

    def __init__(self, process: ServerProcess) -> None:
        self.process = process
        self.channel = grpc.insecure_channel(process.address, [("grpc.max_send_message_length", -1)])
        # Texts that mean something here, so that requests reach beyond the first check.
        request = train_request("fuzzed", epochs=2, activation=pb.ACTIVATION_ALWAYS, task_id="a task", domain="sleep")
        request.training.seed = seed(700)
        events = list(process.stub().Train(request))
        assert events[-1].succeeded.version == "fuzzed_v1"
        self.examples = examples(events[0].job_id)
        self.known = ["fuzzed", "v1", "fuzzed_v1", "base", "user_feedback", "a task", "sleep", "none", events[0].job_id]
        self.begun = time.monotonic()
        self.memory = [self.resident()]

    def resident(self) -> float:
        return float(psutil.Process(self.process.process.pid).memory_info().rss) / 2**20

    def send(self, method: MethodDescriptor, data: bytes, kind: str) -> None:
        """Sends bytes as a method's request and checks the answer; of a stream the first message."""
        name = f"{method.containing_service.full_name}/{method.name}"
        code, error = "OK", None
        try:
            if method.client_streaming:
                next(self.channel.stream_stream(f"/{name}")(iter([data]), timeout=20), None)
            elif method.server_streaming:
                stream = self.channel.unary_stream(f"/{name}")(data, timeout=20)
                next(stream, None)
                stream.cancel()
            else:
                self.channel.unary_unary(f"/{name}")(data, timeout=20)
        except grpc.RpcError as raised:
            code, error = raised.code().name, raised
        assert code in FITTING, f"{name} answered {code} ({error.details() if error else ''}) to {data[:200].hex()}"
        if error and method.containing_service.full_name == OURS:
            status = rpc_status.from_call(error)
            info = error_details_pb2.ErrorInfo()
            assert status, f"{name}: {code} without details"
            assert status.details[0].Unpack(info)
            assert info.domain == "lyra_adapters"
            assert info.reason
        answers[name][code] += 1
        sent[kind] += 1
        if sent.total() % (REQUESTS // 4) == 0:
            self.memory.append(self.resident())


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    home = tmp_path_factory.mktemp("fuzz")
    # Heartbeats at once, so that a stream with nothing to say answers too.
    flags = ("--heartbeat-s", "0.05", "--progress-interval-s", "60")
    process = ServerProcess(home / "home", "none", home / "cache", *flags, command=COMMAND)
    yield Target(process)
    process.stop()


def quietly(examples: int) -> Callable[..., Any]:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )


@pytest.mark.timeout(900)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_well_formed_requests(target: Target, method: MethodDescriptor) -> None:
    @quietly(REQUESTS // 3 // len(METHODS) + 1)
    @given(well_formed(method.input_type, target.known))
    def run(message: Any) -> None:
        target.send(method, message.SerializeToString(), "well-formed")

    run()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_requests_that_are_nearly_right(target: Target, method: MethodDescriptor) -> None:
    found = target.examples[method.input_type.full_name] or [message_factory.GetMessageClass(method.input_type)()]

    @quietly(REQUESTS // 3 // len(METHODS) + 1)
    @given(nearly_right(method.input_type, target.known, found))
    def run(message: Any) -> None:
        target.send(method, message.SerializeToString(), "nearly right")

    run()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_bytes_that_are_no_request(target: Target, method: MethodDescriptor) -> None:
    chance = random.Random(f"{method.full_name} {os.environ.get('FUZZ_SEED', 0)}")
    valid = [b"", *(request.SerializeToString() for request in target.examples[method.input_type.full_name])]

    @quietly(20)
    @given(well_formed(method.input_type, target.known))
    def collect(message: Any) -> None:
        valid.append(message.SerializeToString())

    collect()
    for _ in range(REQUESTS // 3 // len(METHODS) + 1):
        target.send(method, malformed(chance.choice(valid), chance), "malformed")


def test_bytes_that_are_not_even_grpc(target: Target) -> None:
    """Noise on the port, with and without HTTP/2's opening."""
    chance = random.Random(0)
    host, _, port = target.process.address.rpartition(":")
    for number in range(60):
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" if number % 2 else b""
            connection.sendall(opening + chance.randbytes(chance.randrange(1, 2000)))


def test_the_server_is_as_well_as_before(target: Target) -> None:
    process = target.process
    assert process.process.poll() is None
    assert process.stub().Status(pb.StatusRequest()).service.version
    assert not process.logged("rpc_broke")
    assert not process.logged("job_broke")
    target.memory.append(target.resident())
    seconds = time.monotonic() - target.begun
    if sent.total() >= 0.9 * REQUESTS:
        # From the first quarter on: until then caches fill.
        assert target.memory[-1] - target.memory[1] < 24, target.memory
    table = report(target.memory, seconds)
    print("\n" + table)
    if os.environ.get("UPDATE_DOCS"):
        TABLE.write_text(table, encoding="utf-8")


def report(memory: list[float], seconds: float) -> str:
    codes = sorted({code for counts in answers.values() for code in counts})
    lines = [
        "# Fuzz",
        "",
        f"`FUZZ_REQUESTS={REQUESTS}`, `tests/contract/test_fuzz.py`: {sent.total():,} requests "
        f"({', '.join(f'{count:,} {kind}' for kind, count in sent.items())}) in {seconds:.0f} s, on {sys.platform}.",
        "",
        f"| method | {' | '.join(codes)} |",
        f"|---|{'---:|' * len(codes)}",
        *(f"| {name} | {' | '.join(f'{counts[code]:,}' for code in codes)} |" for name, counts in answers.items()),
        "",
        "INTERNAL, UNKNOWN: 0. Crashes: 0. The server's memory before, after each quarter and at the end: "
        f"{', '.join(f'{value:.0f}' for value in memory)} MiB.",
        "",
    ]
    return "\n".join(lines)
