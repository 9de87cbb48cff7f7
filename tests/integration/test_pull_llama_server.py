"""`pull --llama-server` with the real llama-server: after each change it answers as the version in force does."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import xllamacpp
from gguf_base import write_base
from lyra_adapters import PointerChangeKind
from lyra_adapters.cli import main
from lyra_adapters.testing import FakeAdapterServer

# Of the tiny base: its width, and that of its keys and values.
WIDTH, VALUES, RANK = 32, 16, 4


def write_adapter(target: Path, seed: int) -> bytes:
    """A LoRA adapter for the tiny base that changes its answers."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 16.0)
    for layer in (0, 1):
        name = f"blk.{layer}.attn_v.weight"
        writer.add_tensor(f"{name}.lora_a", random.normal(size=(RANK, WIDTH)).astype(np.float32))
        writer.add_tensor(f"{name}.lora_b", random.normal(size=(VALUES, RANK)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target.read_bytes()


class LlamaServer:
    """llama-server in this process, started with some adapters."""

    def __init__(self, base: Path, adapters: list[Path]) -> None:
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(base)
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = 256
        parameters.n_parallel = 1
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
        parameters.warmup = False
        parameters.verbosity = 0
        parameters.cache_ram_mib = 0
        parameters.hostnames = ["127.0.0.1"]
        parameters.port = 0
        parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(path), 1.0) for path in adapters]
        self._server = xllamacpp.Server(parameters)
        self.address = str(self._server.listening_address)

    def likeliest(self, scales: list[float] | None = None) -> list[tuple[int, float]]:
        """The likeliest tokens after a prompt, with the scales that are set, or with those given."""
        body: dict[str, Any] = {
            "prompt": "Does sleep help memory?",
            "n_predict": 1,
            "n_probs": 5,
            # A token drawn at random may be the end, or half a character: then the answer has no probabilities.
            "temperature": 0,
            "ignore_eos": True,
            "cache_prompt": False,
        }
        if scales is not None:
            body["lora"] = [{"id": number, "scale": scale} for number, scale in enumerate(scales)]
        request = urllib.request.Request(
            f"{self.address}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            (token,) = json.load(answer)["completion_probabilities"]
        return [(entry["id"], round(entry["logprob"], 3)) for entry in token["top_logprobs"]]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAdapterServer]:
    with FakeAdapterServer() as server:
        monkeypatch.setenv("LYRA_ADAPTERS_SERVER", server.target)
        for number in (1, 2, 3):
            data = write_adapter(tmp_path / "made.gguf", number)
            server.files[f"user_feedback_v{number}"] = {f"user_feedback_v{number}.gguf": data}
        yield server


def test_llama_server_answers_as_the_version_in_force(
    fake: FakeAdapterServer, tmp_path: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "adapters"

    def pull(to: str, *options: str) -> int:
        if to == "base":
            fake.pointers.back("user_feedback", to, actor="", reason="", expected="")
        else:
            fake.pointers.move("user_feedback", f"user_feedback_{to}", PointerChangeKind.ACTIVATED)
        return main(["pull", "user_feedback", "--to", str(there), *options])

    for version in ("v1", "v2"):
        assert pull(version) == 0
    started_with = [there / f"user_feedback_{v}" / f"user_feedback_{v}.gguf" for v in ("v1", "v2")]
    llama = LlamaServer(write_base(tiny_base, tmp_path / "base.gguf"), started_with)
    alone = {"v1": llama.likeliest([1, 0]), "v2": llama.likeliest([0, 1]), "base": llama.likeliest([0, 0])}
    assert alone["v1"] != alone["v2"] != alone["base"] != alone["v1"]
    for version in ("v1", "v2", "base", "v2"):
        assert pull(version, "--llama-server", llama.address) == 0
        assert llama.likeliest() == alone[version], version
    # What it was not started with it can't load; it goes on with what it has.
    assert pull("v3", "--llama-server", llama.address) == 1
    assert "was started without user_feedback_v3" in capsys.readouterr().err
    assert llama.likeliest() == alone["v2"]
