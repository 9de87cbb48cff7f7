"""Metrics: off unless asked for, exact where they come from storage, and no name or text of a caller in them."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import yaml
from lyra_adapters.v1 import adapter_service_pb2 as pb
from prometheus_client.parser import text_string_to_metric_families
from quick_server import COMMAND, Script, seed
from server_process import ServerProcess
from train_requests import train_request

MONITORING = Path(__file__).parents[2] / "docs" / "monitoring"
NAME = re.compile(r"\blyra_adapters_[a-z_]+")
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that has trained, refused and changed what is in force."""
    home = tmp_path_factory.mktemp("metrics")
    flags = ("--metrics-listen", "127.0.0.1:0", "--progress-interval-s", "0")
    server = ServerProcess(home / "home", "none", home / "cache", *flags, command=COMMAND)
    stub = server.stub()
    request = train_request("secret_name", 60, epochs=4, activation=pb.ACTIVATION_ALWAYS, actor="secret actor")
    request.training.seed = seed(800)
    list(stub.Train(request))
    request.training.seed = seed(100, Script.FAILS)
    list(stub.Train(request))
    stub.Rollback(pb.RollbackRequest(adapter="secret_name"))
    with pytest.raises(grpc.RpcError):
        stub.Status(pb.StatusRequest(job_id="secret job"))
    request.training.seed = seed(100, Script.STAYS)
    running = stub.Train(request)
    server.wait_for_state(next(running).job_id, "RUNNING")
    waiting = stub.Train(request)
    assert next(waiting).job_id
    yield server
    server.stop()


def exposition(server: ServerProcess) -> str:
    address = server.wait_for_log("serving_metrics")["address"]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def samples(text: str) -> Samples:
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(found: Samples, name: str, **labels: str) -> float:
    return found[f"lyra_adapters_{name}", frozenset(labels.items())]


def until(server: ServerProcess, check: Callable[[Samples], bool]) -> Samples:
    """The samples once they are as expected: counts of streams follow their end."""
    for _ in range(200):
        found = samples(exposition(server))
        if check(found):
            break
    return found


def test_what_is_counted(busy: ServerProcess) -> None:
    found = until(
        busy,
        lambda now: now.get(("lyra_adapters_rpcs_total", frozenset({"code": "OK", "method": "Train"}.items()))) == 2,
    )
    assert value(found, "rpcs_total", method="Train", code="OK") == 2
    assert value(found, "rpcs_total", method="Status", code="NOT_FOUND") == 1
    assert value(found, "refused_rpcs_total", method="Status", reason="JOB_NOT_FOUND") == 1
    assert value(found, "rpc_seconds_count", method="Rollback") == 1
    assert value(found, "jobs", state="SUCCEEDED") == 1
    assert value(found, "jobs", state="FAILED") == 1
    assert value(found, "jobs", state="RUNNING") == 1
    assert value(found, "jobs", state="QUEUED") == 1
    assert value(found, "queue_age_seconds") > 0
    assert value(found, "streams", method="Train") == 2
    assert value(found, "versions") == 1
    assert value(found, "pointer_changes_total", kind="PUBLISHED") == 1
    assert value(found, "pointer_changes_total", kind="ROLLED_BACK") == 1
    assert value(found, "pointer_changes_total", kind="ACTIVATED") == 0
    assert value(found, "training_step_seconds_count") > 3
    assert value(found, "training_tokens_per_second") == 1000
    assert value(found, "event_lag_seconds_count") > 10
    assert 20e6 < value(found, "resident_memory_bytes", process="server") < 400e6
    assert value(found, "resident_memory_bytes", process="trainer") == 0


def test_no_name_of_a_caller_is_in_them(busy: ServerProcess) -> None:
    text = exposition(busy)
    assert "secret" not in text
    assert "premise" not in text
    labels = {key for _, pairs in samples(text) for key, _ in pairs}
    assert labels <= {"method", "code", "reason", "state", "kind", "process", "le"}


def test_dashboard_and_alerts_name_metrics_that_are_there(busy: ServerProcess) -> None:
    names = {name for name, _ in samples(exposition(busy))}
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    (group,) = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    alerts = [rule["expr"] for rule in group["rules"]]
    assert all({"alert", "expr", "labels", "annotations"} <= rule.keys() for rule in group["rules"])
    asked = {name for expression in [*shown, *alerts] for name in NAME.findall(expression)}
    assert len(asked) > 10
    assert asked <= names
    # And whatever there is, somebody looks at.
    families = {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in names}
    assert families == {name.removesuffix("_bucket") for name in asked}


def test_operations_page_lists_them_all(busy: ServerProcess) -> None:
    page = (MONITORING.parent / "operations.md").read_text()
    families = {family.name for family in text_string_to_metric_families(exposition(busy))}
    counters = {f"{name}_total" for name in families if f"{name}_total" in exposition(busy)}
    plain = {name for name in families if f"{name}_total" not in counters}
    listed = {name for name in NAME.findall(page.partition("## Metrics")[2].partition("\n## ")[0]) if name[-1] != "_"}
    assert listed == counters | plain


def test_off_unless_asked_for(quick_server: Callable[..., ServerProcess]) -> None:
    assert not quick_server().logged("serving_metrics")


def test_an_address_that_is_taken_is_told(busy: ServerProcess, tmp_path: Path) -> None:
    address = busy.wait_for_log("serving_metrics")["address"]
    flags = ("--home", str(tmp_path / "home"), "--cache-dir", str(tmp_path / "cache"), "--base-model", "none")
    command = [*COMMAND, *flags, "--listen", "127.0.0.1:0", "--metrics-listen", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"metrics_listen: can't listen on {address}" in done.stderr
