"""No text of a user and no token reaches a log, an error, an event or a version's files, however calls fail."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from lyra_adapters import AdapterClient, AdapterError
from lyra_adapters.v1 import adapter_service_pb2 as pb
from lyra_adapters.v1 import adapter_service_pb2_grpc as pb_grpc
from lyra_adapters_server.service.auth import command
from server_process import ServerProcess
from tiny_base import rows

# Parts of texts, each unlike anything else.
CANARIES = ("quokkaPremise", "quokkaHypothesis", "quokkaGroup", "quokkaReview")


def planted() -> list[dict[str, Any]]:
    """Rows whose texts hold canaries."""
    return [
        {
            **row,
            "premise": f"quokkaPremise {row['premise']}",
            "hypothesis": f"quokkaHypothesis {row['hypothesis']}",
            "group": f"quokkaGroup {number // 3}",
        }
        for number, row in enumerate(rows(60))
    ]


def failing(stub: pb_grpc.AdapterServiceStub) -> Iterator[tuple[Callable[..., Any], Any]]:
    """Calls with canaries in fields that are refused, where they belong and where they don't."""
    good = pb.Sample(premise="quokkaPremise", hypothesis="quokkaHypothesis", correct_label=1, group="quokkaGroup")
    bad_label = pb.Sample(premise="quokkaPremise", hypothesis="quokkaHypothesis", correct_label=9)
    other_label = pb.Sample(premise="quokkaPremise", hypothesis="quokkaHypothesis", correct_label=2)
    long = pb.Sample(premise="quokkaPremise " * 5000, hypothesis="quokkaHypothesis", correct_label=1)
    nul = pb.Sample(premise="quokkaPremise\0", hypothesis="quokkaHypothesis", correct_label=1)
    for samples in ([good, bad_label], [good, other_label], [long], [nul], [good]):
        yield stub.Train, pb.TrainRequest(adapter="mine", samples=samples)
        yield stub.RecordFeedback, pb.RecordFeedbackRequest(reviews=[pb.Review(sample=s) for s in samples])
    yield stub.Classify, pb.ClassifyRequest(adapter="mine", pairs=[pb.Pair(premise="quokkaPremise", hypothesis="")])
    yield stub.Classify, pb.ClassifyRequest(adapter="none", pairs=[pb.Pair(premise="quokkaPremise", hypothesis="h")])
    yield stub.Classify, pb.ClassifyRequest(version="base", pairs=[pb.Pair(premise="quokkaPremise", hypothesis="h")])


def test_no_text_and_no_token_is_told(
    tmp_path: Path, start_server: Callable[..., ServerProcess], capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = tmp_path / "tokens.toml"
    words = ["new", "ada", "--role", "operate", "--adapters", "*", "--tokens-file", str(tokens), "--json"]
    assert command.main(words) == 0
    token = json.loads(capsys.readouterr().out)["token"]
    wrong = token[:-4] + "wxyz"
    server = start_server(
        *("--log-level", "debug", "--tokens-file", str(tokens), "--metrics-listen", "127.0.0.1:0")
    ).wait_ready()
    told: list[str] = []

    with AdapterClient(server.address, token=wrong) as client, pytest.raises(AdapterError) as error:
        client.status()
    told.append(str(error.value))
    with AdapterClient(server.address, token=token) as client:
        client.record_feedback([{"sample": {**row, "premise": f"quokkaReview {n}"}} for n, row in enumerate(planted())])
        stream = client.train(
            planted(),
            adapter="mine",
            training={"epochs": 30, "patience": 0},
            activation="ALWAYS",
            trigger={"force": True},
        )
        for event in stream:
            told.append(repr(event))
            if event.kind == "progress":
                break
        # A failure in the middle: the trainer is killed, and the job goes on.
        os.kill(server.worker_pid(), signal.SIGKILL)
        told += [repr(event) for event in client.watch(stream.job_id)]
        job = client.job(stream.job_id)
        assert job.state == "SUCCEEDED"
        told.append(repr(job))
        told.append(repr(client.status()))
        told += [repr(version) for version in client.versions("mine")]

    with grpc.insecure_channel(server.address) as channel:
        stub = pb_grpc.AdapterServiceStub(channel)
        for call, request in failing(stub):
            answer: Any = None
            try:
                answer = call(request, metadata=[("authorization", f"Bearer {token}")], timeout=30)
                if isinstance(answer, Iterator):
                    answer = list(answer)
            except grpc.RpcError as error:
                told.append(f"{error.details()} {error.trailing_metadata()}")
            told.append(str(answer))
        # Bytes that are no request, with a text in them.
        with contextlib.suppress(grpc.RpcError):
            channel.unary_unary("/lyra_adapters.v1.AdapterService/Classify")(
                b"\xff quokkaPremise", metadata=[("authorization", f"Bearer {token}")], timeout=30
            )
    with urllib.request.urlopen(f"http://{server.wait_for_log('serving_metrics')['address']}/metrics") as metrics:
        told.append(metrics.read().decode())
    server.stop()

    for name in ("events", "jobs", "versions", "activations", "sample_uses", "splits"):
        with contextlib.closing(sqlite3.connect(server.home / "registry.db")) as database:
            told += [repr(row) for row in database.execute(f"SELECT * FROM {name}")]  # constants
    for path in server.home.rglob("*"):
        if path.is_file() and not path.name.startswith("registry.db"):
            told.append(path.read_bytes().decode("utf-8", "replace"))

    log = "\n".join(server.lines)
    assert '"level": "debug"' in log
    assert server.logged("worker_died")
    assert {line["code"] for line in server.logged("rpc")} >= {"OK", "UNAUTHENTICATED", "INVALID_ARGUMENT", "NOT_FOUND"}
    for secret in (*CANARIES, token, wrong):
        assert secret not in log
        assert not [text for text in told if secret in text], secret
