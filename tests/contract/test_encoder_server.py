"""A server with encoders and several base models: loaded when used, each on its own feet."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from lyra_adapters.v1 import adapter_service_pb2 as pb
from lyra_adapters.v1 import adapter_service_pb2_grpc as pb_grpc
from server_process import ServerProcess
from tiny_encoders import make_tiny_encoder
from train_requests import kinds, train_request

PAIR = pb.Pair(premise="The premise.", hypothesis="The claim.")


def states(stub: pb_grpc.AdapterServiceStub) -> dict[str, str]:
    bases = stub.Status(pb.StatusRequest()).service.base_models
    return {base.alias: pb.BaseModelState.Name(base.state).removeprefix("BASE_MODEL_STATE_") for base in bases}


def test_several_bases_one_of_them_broken(start_server: Callable[..., ServerProcess], tmp_path: Path) -> None:
    nli = make_tiny_encoder(tmp_path / "nli", "bert")
    plain = make_tiny_encoder(tmp_path / "plain", "deberta-v3", ())
    flags = ["--base-model", f"plain={plain}", "--base-model", f"broken={tmp_path / 'nothing'}"]
    server = start_server(*flags, "--max-loaded-bases", "1", base=f"nli={nli}")
    server.wait_ready()
    server.wait_for_log("base_described", 2)
    server.wait_for_log("base_failed")
    stub = server.stub()
    assert states(stub) == {"nli": "READY", "plain": "UNLOADED", "broken": "FAILED"}
    broken = stub.Status(pb.StatusRequest()).service.base_models[2]
    assert "there is no directory" in broken.error
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.Train(train_request("x", base_model="broken")))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
    # Its shapes are known although its weights are not in memory.
    with pytest.raises(grpc.RpcError, match="query_proj"):
        list(stub.Train(train_request("x", base_model="plain", lora=pb.LoraConfig(target_modules=["q_proj"]))))

    # Nothing can be asked of a base without a head, but it can be trained, by being loaded.
    with pytest.raises(grpc.RpcError, match="no NLI head") as caught:
        stub.Classify(pb.ClassifyRequest(version="base", base_model="plain", pairs=[PAIR]))
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION  # type: ignore[attr-defined]
    request = train_request("headed", base_model="plain", activation=pb.ACTIVATION_ALWAYS)
    assert kinds(list(stub.Train(request)))[-1] == "succeeded"
    assert states(stub) == {"nli": "UNLOADED", "plain": "READY", "broken": "FAILED"}
    result = stub.Classify(pb.ClassifyRequest(adapter="headed", pairs=[PAIR])).results[0].probabilities
    assert result.supports + result.refutes + result.neutral == pytest.approx(1)
    assert stub.Classify(pb.ClassifyRequest(version="base", base_model="nli", pairs=[PAIR])).base_model == "nli"
    assert states(stub)["nli"] == "READY"
    assert kinds(list(stub.Train(train_request("kept"))))[-1] == "succeeded"

    for name, directory in (("headed", plain), ("kept", nli)):
        version = server.home / f"{name}_v1"
        prompt = json.loads((version / "prompt.json").read_text())
        assert prompt["kind"] == "pair"
        assert json.loads((version / "training.json").read_text())["prompt"] == "pair"
        printed = run_snippet(version)
        assert sum(printed.values()) == pytest.approx(1, abs=0.01)
        assert str(directory) in (version / "README.md").read_text()
    # The card's pair, asked of the server.
    pair = pb.Pair(premise="Naps of 90 minutes improved recall.", hypothesis="Naps help memory.")
    found = stub.Classify(pb.ClassifyRequest(adapter="kept", version="v1", pairs=[pair])).results[0].probabilities
    expected = run_snippet(server.home / "kept_v1")
    assert [found.supports, found.refutes, found.neutral] == pytest.approx(
        [expected["SUPPORTS"], expected["REFUTES"], expected["NEUTRAL"]], abs=0.02
    )


def test_labels_without_names_are_told_in_the_settings(
    start_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    base = make_tiny_encoder(tmp_path / "nli", "roberta", ("LABEL_0", "LABEL_1", "LABEL_2"))
    untold = start_server(base=f"nli={base}", home=tmp_path / "untold")
    untold.wait_for_log("base_failed")
    assert "[labels.nli]" in untold.stub().Status(pb.StatusRequest()).service.base_models[0].error
    file = tmp_path / "settings.toml"
    file.write_text('[labels.nli]\nSUPPORTS = "LABEL_1"\nREFUTES = "LABEL_2"\nNEUTRAL = "LABEL_0"\n')
    told = start_server("--config", str(file), base=f"nli={base}").wait_ready()
    assert kinds(list(told.stub().Train(train_request("x"))))[-1] == "succeeded"
    prompt = json.loads((told.home / "x_v1" / "prompt.json").read_text())
    assert prompt["label_indices"] == {"SUPPORTS": 1, "REFUTES": 2, "NEUTRAL": 0}


def run_snippet(version: Path) -> dict[str, float]:
    snippet = re.search(r"```python\n(.*?)```", (version / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert snippet
    assert "lyra" not in snippet[1]
    command = [sys.executable, "-W", "error::UserWarning", "-c", snippet[1]]
    done = subprocess.run(command, cwd=version, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = ast.literal_eval(done.stdout.strip().splitlines()[-1])
    return found
