"""In which order things reach the disk, as a power cut would find them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lyra_adapters_server.registry.card import CardFacts
from lyra_adapters_server.registry.links import follow_row
from lyra_adapters_server.registry.pointer import Asked, rollback
from lyra_adapters_server.registry.publish import place, write_files
from lyra_adapters_server.types import BaseIdentity, LoraConfig
from made_registry import MadeRegistry
from safetensors.numpy import save_file
from sqlalchemy import event


@pytest.fixture
def steps(registry: MadeRegistry, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What happens from now on: `sync PATH`, `name PATH`, `commit`."""
    seen: list[str] = []
    home = registry.layout.home

    def short(path: str | Path) -> str:
        return str(Path(path)).replace(str(home), "home")

    def noting(kind: str, function: Callable[..., Any], which: int) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            result = function(*arguments)
            target = arguments[which]
            seen.append(f"{kind} {short(Path(f'/proc/self/fd/{target}').readlink() if kind == 'sync' else target)}")
            return result

        return call

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to tell which file is synced")
    monkeypatch.setattr(os, "fsync", noting("sync", os.fsync, 0))
    for name in ("rename", "replace"):
        monkeypatch.setattr(Path, name, noting("name", getattr(Path, name), 1))

    def committed(_connection: object) -> None:
        seen.append("commit")

    event.listen(registry.database._engine, "commit", committed)
    yield seen
    event.remove(registry.database._engine, "commit", committed)


def test_a_version_is_on_disk_before_its_name_and_its_name_before_its_row(
    registry: MadeRegistry, tmp_path: Path, steps: list[str]
) -> None:
    source = tmp_path / "trained"
    source.mkdir()
    save_file({"w": np.zeros(3, np.float32)}, source / "adapter_model.safetensors")
    for name in ("adapter_config.json", "prompt.json"):
        (source / name).write_text("{}")
    stage = registry.layout.staging / "job" / "version"
    written = write_files(source, stage, card=CARD, metrics={}, training={})

    registry.database.write_now(lambda _: place(registry.layout, "a", 4, stage))
    named, stored = steps.index("name home/a_v4"), steps.index("commit")
    for file in written.files:
        assert steps.index(f"sync home/.staging/job/version/{file['path']}") < named
    assert steps.index("sync home/.staging/job/version") < named < steps.index("sync home") < stored


def test_a_rollback_is_on_disk_before_it_is_acknowledged(registry: MadeRegistry, steps: list[str]) -> None:
    async def acknowledge() -> None:
        await registry.database.write(lambda c: rollback(c, "a", "", "", Asked(principal="p")), "rollback")
        await follow_row(registry.database, registry.layout, "a")
        steps.append("acknowledged")

    asyncio.run(acknowledge())
    row, link, words = steps.index("commit"), steps.index("name home/a"), steps.index("name home/a.json")
    assert row < link < words
    file = next(step for step in steps if step.startswith("sync home/.staging/file-"))
    assert steps.index(file) < words < steps.index("sync home") < steps.index("acknowledged")


def test_every_connection_waits_for_the_disk_at_each_commit(registry: MadeRegistry) -> None:
    found = set()
    for _ in range(3):
        with registry.database._engine.connect() as one, registry.database._engine.connect() as two:
            for connection in (one, two):
                asked = [connection.exec_driver_sql(f"PRAGMA {name}") for name in ("synchronous", "journal_mode")]
                found.add(tuple(answer.scalar() for answer in asked))
    assert found == {(2, "wal")}, "FULL: the log is synced at every commit"


CARD = CardFacts(
    name="a_v4",
    adapter="a",
    base=BaseIdentity(id="tiny", revision="", digest=""),
    encoder=False,
    continued_from="",
    domain="",
    champion="base",
    verdict="BETTER",
    explanation="",
    training_samples=1,
    validation_samples=0,
    lora=LoraConfig(),
    before=None,
    after=None,
)
