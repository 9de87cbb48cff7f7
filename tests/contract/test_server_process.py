"""What operators see of the process: no torch in it, health, reflection, logs without texts, an orderly end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from lyra_adapters.v1 import adapter_service_pb2 as pb
from lyra_adapters.v1 import adapter_service_pb2_grpc as pb_grpc
from server_process import ServerProcess
from train_requests import kinds, train_request

StartServer = Callable[..., ServerProcess]

# Runs the server and, at its end, prints what it had imported.
SHOW_MODULES = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr, flush=True))
from lyra_adapters_server.service.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_server_never_imports_torch(start_server: StartServer) -> None:
    server = start_server(command=(sys.executable, "-c", SHOW_MODULES)).wait_ready()
    assert kinds(list(server.stub().Train(train_request("light"))))[-1] == "succeeded"
    server.stub().Status(pb.StatusRequest())
    assert server.stop() == 0
    modules = set(json.loads(next(line for line in reversed(server.lines) if line.startswith("["))))
    assert "lyra_adapters_server.jobs.supervisor" in modules
    assert not {"torch", "transformers", "peft", "gguf"} & modules


def test_health_of_server_and_service(server: ServerProcess) -> None:
    stub = health_pb2_grpc.HealthStub(grpc.insecure_channel(server.address))
    for name in ("", "lyra_adapters.v1.AdapterService"):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as unknown:
        stub.Check(health_pb2.HealthCheckRequest(service="no.such.Service"))
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND


def test_probe_address_serves_health_and_nothing_else(start_server: StartServer) -> None:
    server = start_server("--health-listen", "127.0.0.1:0")
    channel = grpc.insecure_channel(server.wait_for_log("serving_health")["address"])
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as refused:
        pb_grpc.AdapterServiceStub(channel).Status(pb.StatusRequest())
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_log_lines_are_json_and_hold_no_text(start_server: StartServer) -> None:
    server = start_server().wait_ready()
    request = train_request("quiet")
    for sample in request.samples:
        sample.premise += " SECRETPREMISE"
        sample.hypothesis += " SECRETHYPOTHESIS"
    assert kinds(list(server.stub().Train(request)))[-1] == "succeeded"
    request.samples[3].hypothesis = "SECRETHYPOTHESIS " * 1000
    with pytest.raises(grpc.RpcError) as refused:
        list(server.stub().Train(request))
    assert "SECRET" not in str(refused.value)
    server.stop()
    assert not [line for line in server.lines if not line.startswith("{")]
    assert [line["state"] for line in server.logged("job_state")] == ["QUEUED", "RUNNING", "SUCCEEDED"]
    assert [line["code"] for line in server.logged("rpc") if line["method"] == "Train"] == ["OK", "INVALID_ARGUMENT"]
    assert not [line for line in server.lines if "SECRET" in line]


def test_undecodable_bytes_are_an_invalid_argument(server: ServerProcess) -> None:
    channel = grpc.insecure_channel(server.address)
    for method in ("Status", "Rollback", "List", "Cancel", "Classify"):
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(f"/lyra_adapters.v1.AdapterService/{method}")(b"\xff\xff\xff")
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT, method
    for method in ("Train", "Watch", "Download"):
        with pytest.raises(grpc.RpcError) as refused:
            list(channel.unary_stream(f"/lyra_adapters.v1.AdapterService/{method}")(b"\xff\xff\xff"))
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT, method


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--listen", "0.0.0.0:50051"), "loopback"),
        (("--listen", "nonsense"), "HOST:PORT"),
        (("--nice", "77"), "nice"),
        (("--health-listen", "nonsense"), "health_listen"),
        (("--base-model", "a=x", "--base-model", "a=y"), "aliases must differ"),
        (("--config", "/nowhere/settings.toml"), "no such file"),
    ],
)
def test_unusable_settings_end_the_process_with_a_reason(flags: tuple[str, ...], says: str, tmp_path: Path) -> None:
    import subprocess

    command = [sys.executable, "-m", "lyra_adapters_server.service.main", "--home", str(tmp_path), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_training_before_the_base_is_loaded_is_unavailable(start_server: StartServer) -> None:
    server = start_server()
    with pytest.raises(grpc.RpcError) as refused:
        list(server.stub().Train(train_request("early")))
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


def test_base_that_cannot_be_loaded_says_why(start_server: StartServer, tmp_path: object) -> None:
    server = start_server(base=f"broken={tmp_path}")
    server.wait_for_log("base_failed")
    base = server.stub().Status(pb.StatusRequest()).service.base_models[0]
    assert base.state == pb.BASE_MODEL_STATE_FAILED
    assert base.error
