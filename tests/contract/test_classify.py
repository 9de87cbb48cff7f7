"""Classify gives what plain transformers and peft give, from any version, beside a training."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from lyra_adapters.v1 import adapter_service_pb2 as pb
from server_process import ServerProcess
from tiny_base import rows
from train_requests import train_request

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "score_peft.py"
ROWS = rows(60)
LABELS = {pb.LABEL_SUPPORTS: "SUPPORTS", pb.LABEL_REFUTES: "REFUTES", pb.LABEL_NEUTRAL: "NEUTRAL"}


@pytest.fixture(scope="module")
def versions(server: ServerProcess) -> None:
    """`judge` with two versions, the second in force."""
    for seed in (1, 2):
        request = train_request("judge", epochs=6, activation=pb.ACTIVATION_ALWAYS)
        request.training.seed = seed
        list(server.stub().Train(request))


def pairs(count: int = len(ROWS)) -> list[pb.Pair]:
    return [pb.Pair(premise=row["premise"], hypothesis=row["hypothesis"]) for row in ROWS[:count]]


def outside(tiny_base: Path, version: Path, file: Path, *flags: str) -> dict[str, Any]:
    command = [sys.executable, str(SCRIPT), str(file), "--base", str(tiny_base), *flags]
    found: dict[str, Any] = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=100).stdout
    )
    return found


@pytest.mark.usefixtures("versions")
@pytest.mark.parametrize(("asked", "name"), [("base", "base"), ("v1", "judge_v1"), ("", "judge_v2")])
def test_agrees_with_plain_transformers_and_peft(
    asked: str, name: str, server: ServerProcess, tiny_base: Path, tmp_path: Path
) -> None:
    answer = server.stub().Classify(pb.ClassifyRequest(adapter="judge", version=asked, pairs=pairs()))
    assert (answer.version, answer.base_model) == (name, "tiny")
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    version = server.home / ("judge_v1" if name == "base" else name)
    flags = ["--prompt", str(version / "prompt.json")] if name == "base" else ["--adapter", str(version)]
    # In bfloat16 it would be plain transformers whose label is chance where two are nearly tied.
    expected = outside(tiny_base, version, file, *flags, "--dtype", "float32")
    for result, probabilities in zip(answer.results, expected["probabilities"], strict=True):
        given = result.probabilities
        assert [given.supports, given.refutes, given.neutral] == pytest.approx(probabilities, abs=1e-3)
    # Which of two labels comes first is chance where they are nearer to each other than that.
    clear = [i for i, row in enumerate(expected["probabilities"]) if sorted(row)[2] - sorted(row)[1] > 2e-3]
    assert len(clear) > 0.9 * len(ROWS)
    given_labels = [LABELS[result.label] for result in answer.results]
    assert [given_labels[i] for i in clear] == [expected["predictions"][i] for i in clear]


@pytest.mark.usefixtures("versions")
def test_answers_beside_a_training(server: ServerProcess) -> None:
    stub = server.stub()
    training = stub.Train(train_request("busy_meanwhile", count=90, epochs=60))
    job_id = next(iter(training)).job_id
    server.wait_for_state(job_id, "RUNNING")
    took = []
    for _ in range(20):
        begun = time.perf_counter()
        stub.Classify(pb.ClassifyRequest(adapter="judge", pairs=pairs(16)))
        took.append(time.perf_counter() - begun)
    assert stub.Status(pb.StatusRequest(job_id=job_id)).job.state == pb.JOB_STATE_RUNNING
    stub.Cancel(pb.CancelRequest(job_id=job_id))
    assert max(took) < 2.0


@pytest.mark.usefixtures("versions")
def test_over_long_premises_are_cut_and_said(server: ServerProcess) -> None:
    request = pb.ClassifyRequest(adapter="judge", pairs=[pb.Pair(premise="word " * 3000, hypothesis="h"), *pairs(1)])
    assert [result.truncated for result in server.stub().Classify(request).results] == [True, False]


@pytest.mark.usefixtures("versions")
@pytest.mark.parametrize(
    ("request_", "code", "says"),
    [
        (pb.ClassifyRequest(adapter="judge"), "INVALID_ARGUMENT", "1 to 256"),
        (pb.ClassifyRequest(pairs=[pb.Pair(premise="p", hypothesis="h")] * 257), "INVALID_ARGUMENT", "1 to 256"),
        (pb.ClassifyRequest(pairs=[pb.Pair(premise="p")]), "INVALID_ARGUMENT", "pairs[0].hypothesis"),
        (pb.ClassifyRequest(adapter="judge", version="v9", pairs=pairs(1)), "NOT_FOUND", "v9"),
        (pb.ClassifyRequest(adapter="nobody", pairs=pairs(1)), "NOT_FOUND", "nobody"),
        (pb.ClassifyRequest(version="base", base_model="x", pairs=pairs(1)), "PERMISSION_DENIED", "allow-list"),
    ],
)
def test_refusals(server: ServerProcess, request_: pb.ClassifyRequest, code: str, says: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        server.stub().Classify(request_)
    assert refused.value.code().name == code
    assert says in (refused.value.details() or "")
