"""While a real model trains on every core, the server still answers at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lyra_adapters.v1 import adapter_service_pb2 as pb
from server_process import ServerProcess
from train_requests import train_request

CALLS = 500
LIMIT_MS = 50.0


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.timeout(400)
def test_status_list_and_rollback_answer_within_50_ms_at_p99(
    start_server: Callable[..., ServerProcess], tiny_base: Path, model_cache: Path
) -> None:
    server = start_server("--base-model", f"tiny={tiny_base}", "--cache-dir", str(model_cache), base="demo")
    server.wait_ready()
    server.wait_for_log("base_described", 2)
    stub = server.stub()
    # Something to roll back: one activation for each call.
    list(stub.Train(train_request("moved", base_model="tiny", activation=pb.ACTIVATION_ALWAYS)))
    training = stub.Train(train_request("slow", count=400, epochs=50))
    job_id = next(iter(training)).job_id
    server.wait_for_state(job_id, "RUNNING")

    def rollback_and_back(number: int) -> None:
        if number % 2:
            stub.Activate(pb.ActivateRequest(adapter="moved", version="v1"))
        else:
            stub.Rollback(pb.RollbackRequest(adapter="moved", to_version="base"))

    calls: dict[str, Callable[[int], object]] = {
        "Status": lambda _: stub.Status(pb.StatusRequest()),
        "Status of the job": lambda _: stub.Status(pb.StatusRequest(job_id=job_id)),
        "List": lambda _: stub.List(pb.ListRequest()),
        "Rollback and Activate": rollback_and_back,
    }
    p99 = {}
    for name, call in calls.items():
        took = []
        for number in range(CALLS):
            begun = time.perf_counter()
            call(number)
            took.append((time.perf_counter() - begun) * 1000)
        p99[name] = sorted(took)[int(0.99 * CALLS) - 1]
    print({name: f"p99 {value:.1f} ms" for name, value in p99.items()})
    assert stub.Status(pb.StatusRequest(job_id=job_id)).job.state == pb.JOB_STATE_RUNNING
    stub.Cancel(pb.CancelRequest(job_id=job_id))
    assert max(p99.values()) < LIMIT_MS, p99
