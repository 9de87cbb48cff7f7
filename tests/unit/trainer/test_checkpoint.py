"""Checkpoints on disk: whole or not there, and what happens to damaged ones."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from lyra_adapters_server import failpoints
from lyra_adapters_server.trainer import checkpoint as module
from lyra_adapters_server.trainer.checkpoint import Checkpoints
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.spec import CheckpointRules

TENSORS = {"adapter/a": torch.arange(6.0).view(2, 3), "best/a": torch.ones(2, 3)}


def checkpoints(directory: Path, fingerprint: str = "same", steps: int = 0, seconds: float = 30.0) -> Checkpoints:
    return Checkpoints(CheckpointRules(directory=str(directory / "c"), steps=steps, seconds=seconds), fingerprint)


def write(directory: Path, *steps: int) -> Checkpoints:
    made = checkpoints(directory)
    for step in steps:
        made.write(step, TENSORS, {"state": {"step": step, "loss": 0.1}})
    return made


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def test_the_newest_is_gone_on_from_and_one_before_it_is_kept(tmp_path: Path) -> None:
    made = write(tmp_path, 5, 10, 15)
    found, unusable = made.newest()
    assert found is not None
    assert (found.step, found.content, unusable) == (15, {"state": {"step": 15, "loss": 0.1}}, [])
    assert all(torch.equal(found.tensors[name], value) for name, value in TENSORS.items())
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["step-00000010", "step-00000015"]


def test_files_are_private(tmp_path: Path) -> None:
    write(tmp_path, 1)
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "c" / "step-00000001").iterdir()} == {0o600}


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-9] + b"\x7f" + path.read_bytes()[-8:]),
        lambda path: path.write_bytes(b"\0" * path.stat().st_size),
        os.unlink,
    ],
    ids=["torn", "empty", "one byte", "zeros", "missing"],
)
@pytest.mark.parametrize("name", [module.TENSORS_FILE, module.CONTENT_FILE])
def test_a_damaged_one_falls_back_to_the_one_before_then_to_the_start(
    tmp_path: Path, name: str, damage: object
) -> None:
    made = write(tmp_path, 5, 10)
    damage(tmp_path / "c" / "step-00000010" / name)  # type: ignore[operator]
    found, unusable = made.newest()
    assert found is not None
    assert (found.step, [one.step for one in unusable]) == (5, [10])
    # It has been removed: it is told of once.
    assert made.newest()[1] == []
    damage(tmp_path / "c" / "step-00000005" / name)  # type: ignore[operator]
    found, unusable = made.newest()
    assert (found, [one.step for one in unusable]) == (None, [5])
    assert unusable[0].why


def test_one_of_other_rows_or_settings_is_not_gone_on_from(tmp_path: Path) -> None:
    write(tmp_path, 5)
    found, unusable = checkpoints(tmp_path, "other").newest()
    assert found is None
    assert "not those it was written with" in unusable[0].why


def test_one_of_another_format_is_not_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FORMAT", 99)
    made = write(tmp_path, 5)
    monkeypatch.undo()
    assert "format 99" in made.newest()[1][0].why


def test_one_that_was_renamed_is_not_gone_on_from(tmp_path: Path) -> None:
    made = write(tmp_path, 5)
    (tmp_path / "c" / "step-00000005").rename(tmp_path / "c" / "step-00000007")
    assert made.newest()[1][0].why == "it is of step 5"


def test_nothing_but_safetensors_and_json(tmp_path: Path) -> None:
    write(tmp_path, 1)
    files = sorted((tmp_path / "c" / "step-00000001").iterdir())
    assert [path.name for path in files] == ["state.json", "state.safetensors"]
    assert json.loads(files[0].read_text())["body"]["step"] == 1


@pytest.mark.parametrize("point", ["checkpoint.write.before", "checkpoint.write.after", "checkpoint.rename.before"])
def test_a_full_disk_says_so_and_leaves_the_one_before(tmp_path: Path, point: str) -> None:
    made = write(tmp_path, 5)
    failpoints.arm(f"{point}=raise:ENOSPC")
    with pytest.raises(TrainerError) as full:
        made.write(10, TENSORS, {})
    assert full.value.reason == "DISK_FULL"
    assert "step 10" in full.value.message
    found, _ = made.newest()
    assert found is not None
    assert found.step == 5
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["step-00000005"]


def test_another_fault_of_the_disk_is_told_apart(tmp_path: Path) -> None:
    failpoints.arm("checkpoint.write.before=raise:EIO")
    with pytest.raises(TrainerError) as failed:
        write(tmp_path, 5)
    assert failed.value.reason == "CHECKPOINT_FAILED"


def test_half_written_ones_are_cleared_away(tmp_path: Path) -> None:
    made = write(tmp_path, 5)
    (tmp_path / "c" / ".tmp-left").mkdir()
    made.newest()
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["step-00000005"]


def test_due_by_steps_or_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    by_steps = checkpoints(tmp_path, steps=3, seconds=0)
    by_time = checkpoints(tmp_path, seconds=30)
    neither = checkpoints(tmp_path, seconds=0)
    now[0] = 129.0
    assert [by_steps.due(step) for step in (1, 2, 3)] == [False, False, True]
    assert not by_time.due(5)
    now[0] = 131.0
    assert by_time.due(5)
    assert not neither.due(500)
    # Nothing is written twice.
    by_time.write(5, TENSORS, {})
    now[0] = 200.0
    assert not by_time.due(5)


def test_a_slow_disk_gets_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.os, "fsync", lambda _: now.__setitem__(0, now[0] + 1.0))
    made = checkpoints(tmp_path, seconds=30)
    now[0] = 130.0
    seconds, size = made.write(1, TENSORS, {})
    assert seconds == 4.0
    assert size > 48
    # 4 s are 2 % of 200 s.
    now[0] += 199.0
    assert not made.due(2)
    now[0] += 1.0
    assert made.due(2)
