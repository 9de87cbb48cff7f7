"""Backups are consistent while the registry is written to, and are restored into empty homes alone."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from lyra_adapters.cli import main
from lyra_adapters_server.maintenance.backup import MANIFEST, BackupError, back_up, restore
from lyra_adapters_server.maintenance.doctor import examine
from lyra_adapters_server.registry.layout import Layout
from lyra_adapters_server.storage import jobs
from lyra_adapters_server.storage import versions as store
from made_registry import MadeRegistry


def test_backup_while_versions_are_published(registry: MadeRegistry, tmp_path: Path) -> None:
    done = threading.Event()

    def publish() -> None:
        while not done.is_set():
            registry.add_version()

    writer = threading.Thread(target=publish)
    writer.start()
    try:
        copies = [(to, back_up(registry.layout, to)) for to in (tmp_path / f"backup-{n}" for n in range(4))]
    finally:
        done.set()
        writer.join()
    assert copies[0][1].versions >= 3
    assert copies[-1][1].versions > copies[0][1].versions
    for number, (copy, summary) in enumerate(copies):
        home = Layout(tmp_path / f"restored-{number}")
        assert restore(copy, home).versions == summary.versions
        assert examine(home) == []
        restored = MadeRegistry(home.home)
        pointer = restored.database.read_now(lambda c: store.find_pointer(c, "a"))
        assert pointer
        assert home.link("a").resolve() == home.version("a", pointer.active or 0).resolve()
        assert restored.add_version() == summary.versions + 1, "numbers go on"
        restored.database.close()


def test_a_job_under_way_is_free_after_the_restore(registry: MadeRegistry, tmp_path: Path) -> None:
    registry.add_job(ended=False, job_id="waiting")
    registry.database.write_now(lambda c: jobs.claim(c, "server", 1, 10**18))
    back_up(registry.layout, tmp_path / "backup")
    restore(tmp_path / "backup", Layout(tmp_path / "restored"))
    restored = MadeRegistry(tmp_path / "restored")
    job = restored.database.write_now(lambda c: jobs.claim(c, "other", 2, 10))
    assert job
    assert (job.job_id, job.interruptions) == ("waiting", 0)
    restored.database.close()


def test_nothing_is_overwritten(registry: MadeRegistry, tmp_path: Path) -> None:
    back_up(registry.layout, tmp_path / "backup")
    with pytest.raises(BackupError, match="not empty"):
        back_up(registry.layout, tmp_path / "backup")
    before = sorted(path.name for path in registry.layout.home.rglob("*"))
    with pytest.raises(BackupError, match="not empty"):
        restore(tmp_path / "backup", registry.layout)
    assert sorted(path.name for path in registry.layout.home.rglob("*")) == before
    with pytest.raises(BackupError, match="inside"):
        back_up(registry.layout, registry.layout.home / "backup")
    (tmp_path / "empty").mkdir()
    assert restore(tmp_path / "backup", Layout(tmp_path / "empty")).versions == 3


@pytest.mark.parametrize("file", ["registry.db", "a_v2/adapter_model.safetensors", MANIFEST])
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_a_damaged_backup_is_not_restored(registry: MadeRegistry, tmp_path: Path, file: str, how: str) -> None:
    back_up(registry.layout, tmp_path / "backup")
    path = tmp_path / "backup" / file
    path.write_bytes(b"x" + path.read_bytes()[1:]) if how == "changed" else path.unlink()
    with pytest.raises(BackupError):
        restore(tmp_path / "backup", Layout(tmp_path / "restored"))
    assert [path.name for path in tmp_path.iterdir() if "restored" in path.name] == []


def test_a_damaged_registry_is_not_backed_up(registry: MadeRegistry, tmp_path: Path) -> None:
    (registry.layout.version("a", 2) / "adapter_config.json").write_text("[]")
    with pytest.raises(BackupError, match="a_v2"):
        back_up(registry.layout, tmp_path / "backup")
    assert not list(tmp_path.glob("*backup*"))


def test_commands(registry: MadeRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home, to, again = str(registry.layout.home), str(tmp_path / "backup"), str(tmp_path / "again")
    assert main(["backup", to, "--home", home, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["versions"] == 3
    assert main(["backup", to, "--home", home]) == 2
    assert "not empty" in capsys.readouterr().err
    assert main(["restore", to, "--home", again]) == 0
    assert "3 versions" in capsys.readouterr().out
    assert main(["doctor", "--home", again]) == 0
    modes = {path.stat().st_mode & 0o077 for path in Path(to).rglob("*")}
    assert modes == {0}
