"""Which base models are in memory: described at the start, loaded at use, let go when room is needed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import FAMILIES
from lyra_adapters_server.trainer import bases as bases_module
from lyra_adapters_server.trainer import memory
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.events import BaseChanged
from lyra_adapters_server.trainer.spec import BaseModelConfig, WorkerConfig

Make = Callable[..., tuple[Bases, list[BaseChanged]]]


@pytest.fixture
def make(tiny_directory: Callable[[str], Path], tmp_path: Path) -> Make:
    def make(*names: str, **settings: Any) -> tuple[Bases, list[BaseChanged]]:
        told: list[BaseChanged] = []
        sources = {name: tiny_directory(name) if name in FAMILIES else tmp_path / name for name in names}
        entries = tuple(BaseModelConfig(alias=name, source=str(source)) for name, source in sources.items())
        fields: dict[str, Any] = {"device": "cpu", "dtype": "float32", "cache_dir": str(tmp_path / "cache")}
        return Bases(WorkerConfig(bases=entries, **fields | settings), told.append), told

    return make


def use(bases: Bases, alias: str) -> None:
    list(bases.prepare(alias))
    with bases.use(alias) as base:
        assert base.card.alias == alias


def said(told: list[BaseChanged]) -> list[tuple[str, str]]:
    found = [(change.alias, str(change.state)) for change in told]
    told.clear()
    return found


def test_all_are_described_and_the_first_is_loaded(make: Make) -> None:
    bases, told = make("llama", "broken", "qwen2")
    list(bases.start())
    assert [change.card is not None for change in told] == [True, True, True, False, True]
    assert "there is no directory" in told[3].error
    assert said(told) == [
        ("llama", "UNLOADED"),
        ("llama", "LOADING"),
        ("llama", "READY"),
        ("broken", "FAILED"),
        ("qwen2", "UNLOADED"),
    ]
    use(bases, "qwen2")
    use(bases, "qwen2")
    assert said(told) == [("qwen2", "LOADING"), ("qwen2", "READY")]
    with pytest.raises(TrainerError):
        use(bases, "broken")
    use(bases, "llama")
    assert said(told) == [("broken", "FAILED")]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_shapes_without_weights_are_those_of_the_weights(family: str, make: Make) -> None:
    bases, _ = make(family)
    base = bases.get(family)
    assert base.card.parameters == sum(parameter.numel() for parameter in base.model.parameters())


def test_the_one_not_used_the_longest_goes(make: Make) -> None:
    bases, told = make("llama", "qwen2", "gemma", max_loaded_bases=2)
    for alias in ("llama", "qwen2", "llama"):
        use(bases, alias)
    said(told)
    use(bases, "gemma")
    assert said(told) == [("gemma", "UNLOADED"), ("qwen2", "UNLOADED"), ("gemma", "LOADING"), ("gemma", "READY")]
    use(bases, "llama")
    assert said(told) == []


def test_one_in_use_stays_and_the_other_waits_for_its_end(make: Make) -> None:
    bases, told = make("llama", "qwen2", max_loaded_bases=1)
    list(bases.start())
    list(bases.describe("qwen2"))
    said(told)
    with bases.use("llama"):
        waiting = bases.prepare("qwen2")
        for _ in range(3):
            next(waiting)
        assert said(told) == []
    assert list(waiting) == []
    assert said(told) == [("llama", "UNLOADED")]
    use(bases, "qwen2")


def test_memory_decides_where_no_number_does(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    bases, told = make("llama", "qwen2")
    list(bases.start())
    said(told)
    monkeypatch.setattr(bases_module, "available_bytes", lambda _: 0 if bases._loaded else 1 << 40)
    use(bases, "qwen2")
    assert said(told) == [("llama", "UNLOADED"), ("qwen2", "LOADING"), ("qwen2", "READY")]
    monkeypatch.setattr(bases_module, "available_bytes", lambda _: 0)
    with pytest.raises(TrainerError, match="GiB of memory") as caught:
        use(bases, "llama")
    assert caught.value.reason == "BASE_MODEL_NO_MEMORY"
    assert said(told) == [("qwen2", "UNLOADED"), ("llama", "FAILED")]


def test_weights_that_can_not_be_read_are_tried_again(
    make: Make, tiny_directory: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(tiny_directory("llama"), tmp_path / "mended")
    weights = tmp_path / "mended" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    bases, told = make("qwen2", "mended")
    list(bases.start())
    said(told)
    with pytest.raises(TrainerError) as caught:
        use(bases, "mended")
    assert caught.value.reason == "BASE_MODEL_LOAD_FAILED"
    use(bases, "qwen2")
    assert said(told) == [("mended", "LOADING"), ("mended", "FAILED")]
    weights.write_bytes(whole)
    use(bases, "mended")
    assert said(told) == [("mended", "LOADING"), ("mended", "READY")]


def test_memory_left_minds_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    cpu = torch.device("cpu")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    free = memory.available_bytes(cpu)
    assert free > 0
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("600\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 100\n")
    assert memory.available_bytes(cpu) == 500
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes(cpu) > 1000
