"""Code and pickles that come with a base model are never run: only safetensors are read."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.spec import BaseModelConfig, WorkerConfig


class Trap:
    """Unpickling it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._mark),)


@pytest.fixture
def trapped(tiny_directory: Callable[[str], Path], tmp_path: Path) -> tuple[Path, Path]:
    """A base model with a pickle of weights and code of its own beside its safetensors, and the mark they leave."""
    model, mark = tmp_path / "model", tmp_path / "mark"
    shutil.copytree(tiny_directory("llama"), model)
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(mark)))
    for name in ("configuration_own", "modeling_own", "tokenization_own"):
        (model / f"{name}.py").write_text(f"import os\nos.mkdir({str(mark)!r})\nclass Own: pass\n")
    files = {
        "config.json": {"AutoConfig": "configuration_own.Own", "AutoModelForCausalLM": "modeling_own.Own"},
        "tokenizer_config.json": {"AutoTokenizer": ["tokenization_own.Own", None]},
    }
    for file, auto_map in files.items():
        path = model / file
        path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": auto_map}))
    return model, mark


def load(source: Path, cache: Path) -> Any:
    config = WorkerConfig(bases=(BaseModelConfig(alias="x", source=str(source)),), device="cpu", cache_dir=str(cache))
    return Bases(config).get("x")


def test_what_comes_beside_safetensors_is_left_alone(trapped: tuple[Path, Path], tmp_path: Path) -> None:
    model, mark = trapped
    assert load(model, tmp_path / "cache").card.architecture == "LlamaForCausalLM"
    assert not mark.exists()


def test_a_base_of_pickles_alone_is_refused(trapped: tuple[Path, Path], tmp_path: Path) -> None:
    model, mark = trapped
    (model / "model.safetensors").unlink()
    with pytest.raises(TrainerError, match="safetensors") as caught:
        load(model, tmp_path / "cache")
    assert caught.value.reason == "BASE_MODEL_LOAD_FAILED"
    assert not mark.exists()
    # The trap is one.
    pickle.loads((model / "pytorch_model.bin").read_bytes())
    assert mark.exists()


def test_a_type_that_only_its_own_code_knows_is_refused(trapped: tuple[Path, Path], tmp_path: Path) -> None:
    model, mark = trapped
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"model_type": "own"}))
    with pytest.raises(TrainerError) as caught:
        load(model, tmp_path / "cache")
    assert caught.value.reason in ("BASE_MODEL_LOAD_FAILED", "BASE_MODEL_UNSUPPORTED")
    assert not mark.exists()
