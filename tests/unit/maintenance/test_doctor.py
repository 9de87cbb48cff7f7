"""`lyra-adapters doctor`: what is wrong is found, what can be mended is mended, and its exit status says which."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import uuid
from collections.abc import Callable

import pytest
from lyra_adapters.cli import main
from lyra_adapters_server.maintenance.doctor import examine
from lyra_adapters_server.registry.format_files import place_format, seal
from lyra_adapters_server.registry.layout import Layout, remove_tree
from lyra_adapters_server.registry.presence import Presence
from lyra_adapters_server.storage.formats import FormatRecord
from made_registry import MadeRegistry
from sqlalchemy import text

Damage = Callable[[MadeRegistry], None]


def doctor(layout: Layout, capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, dict[str, list[str]]]:
    status = main(["doctor", "--home", str(layout.home), "--json", *flags])
    told = json.loads(capsys.readouterr().out)
    assert told["well"] is (status == 0)
    return status, {key: [finding["reason"] for finding in told[key]] for key in ("problems", "mended")}


def remove_flat_name(registry: MadeRegistry) -> None:
    registry.layout.flat("a", 2).unlink()


def stale_link(registry: MadeRegistry) -> None:
    registry.layout.link("a").unlink()
    registry.layout.link("a").symlink_to("a_v1")


def stale_pointer_file(registry: MadeRegistry) -> None:
    registry.layout.pointer_file("a").write_text("{}")


def leftover(registry: MadeRegistry) -> None:
    (registry.layout.staging / "0-0-0").mkdir(mode=0o700)


def weights_lost_but_for_the_flat_name(registry: MadeRegistry) -> None:
    (registry.layout.version("a", 1) / "adapter_model.safetensors").unlink()


def open_to_all(registry: MadeRegistry) -> None:
    registry.layout.home.chmod(0o755)
    (registry.layout.version("a", 1) / "adapter_config.json").chmod(0o644)


def prepared_and_ended(registry: MadeRegistry) -> None:
    from lyra_adapters_server.storage.reservations import reserve

    job_id = registry.add_job()
    number = registry.database.write_now(lambda c: reserve(c, "a", job_id))
    registry.layout.version("a", number).mkdir(mode=0o700)


def deleted_with_its_files(registry: MadeRegistry) -> None:
    from lyra_adapters_server.registry.deletion import mark

    registry.database.write_now(lambda c: mark(c, "a", "v1", "", ""))


def change_a_form(registry: MadeRegistry) -> None:
    """A file of the size it had: its digest alone tells."""
    layout, stage = registry.layout, registry.layout.staging / "form"
    stage.mkdir(mode=0o700)
    (stage / "a_v1.gguf").write_bytes(b"whole")
    record = FormatRecord("a", 1, "GGUF", 1, seal(stage))
    registry.database.write_now(lambda c: place_format(layout, c, stage, record))
    assert not examine(layout)
    (layout.format("a", 1, "GGUF") / "a_v1.gguf").write_bytes(b"wrong")


def form_of_nobody(registry: MadeRegistry) -> None:
    directory = registry.layout.format("a", 1, "GGUF")
    for path in (directory.parent.parent, directory.parent, directory):
        path.mkdir(mode=0o700, exist_ok=True)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (change_a_form, "FORMAT_WRONG"),
        (form_of_nobody, "ORPHAN"),
        (remove_flat_name, "FLAT_NAME_WRONG"),
        (stale_link, "POINTER_FILES_WRONG"),
        (stale_pointer_file, "POINTER_FILES_WRONG"),
        (leftover, "LEFTOVER"),
        (weights_lost_but_for_the_flat_name, "FILE_WRONG"),
        (open_to_all, "PERMISSIONS"),
        (prepared_and_ended, "ORPHAN"),
        (deleted_with_its_files, "ORPHAN"),
    ],
)
def test_what_can_be_mended(
    damage: Damage, reason: str, registry: MadeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor(registry.layout, capsys) == (0, {"problems": [], "mended": []})
    damage(registry)
    status, found = doctor(registry.layout, capsys)
    assert status == 1
    assert set(found["problems"]) == {reason}
    assert doctor(registry.layout, capsys) == (status, found), "looking changes nothing"
    status, found = doctor(registry.layout, capsys, "--repair")
    assert (status, found["problems"], set(found["mended"])) == (0, [], {reason})
    assert doctor(registry.layout, capsys) == (0, {"problems": [], "mended": []})


def change_a_file(registry: MadeRegistry) -> None:
    path = registry.layout.version("a", 3) / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def lose_a_file(registry: MadeRegistry) -> None:
    (registry.layout.version("a", 1) / "adapter_config.json").unlink()


def lose_an_event(registry: MadeRegistry) -> None:
    registry.database.write_now(lambda c: c.execute(text("DELETE FROM events WHERE sequence = 1")))


def refer_to_nothing(registry: MadeRegistry) -> None:
    connection = sqlite3.connect(registry.layout.database)
    connection.execute("UPDATE activations SET active = 77 WHERE revision = 1")
    connection.commit()
    connection.close()


def stranger(registry: MadeRegistry) -> None:
    registry.layout.version("a", 99).mkdir(mode=0o700)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (change_a_file, "FILE_WRONG"),
        (lose_a_file, "FILE_WRONG"),
        (lose_an_event, "EVENTS_MISSING"),
        (refer_to_nothing, "DATABASE_DAMAGED"),
        (stranger, "UNKNOWN_DIRECTORY"),
    ],
)
def test_what_needs_a_person(
    damage: Damage, reason: str, registry: MadeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(registry)
    for flags in ((), ("--repair",)):
        status, found = doctor(registry.layout, capsys, *flags)
        assert (status, set(found["problems"]), found["mended"]) == (1, {reason}, [])


def test_damaged_pages_are_found(registry: MadeRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(200):
        registry.add_job(job_id=f"job-{n:03}")
    registry.database.close()
    size = registry.layout.database.stat().st_size
    with registry.layout.database.open("r+b") as file:
        file.seek(size // 2)
        file.write(os.urandom(size // 4))
    status, found = doctor(registry.layout, capsys)
    assert (status, set(found["problems"])) == (1, {"DATABASE_DAMAGED"})


def test_says_how_it_is_mended(registry: MadeRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    remove_flat_name(registry)
    assert main(["doctor", "--home", str(registry.layout.home)]) == 1
    assert "a_v2.safetensors" in (told := capsys.readouterr().out)
    assert "--repair mends it" in told
    assert main(["doctor", "--home", str(registry.layout.home), "--repair"]) == 0
    assert "all is well" in capsys.readouterr().out


def test_a_home_without_a_registry(registry: MadeRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = Layout(registry.layout.home.parent / "elsewhere")
    status, found = doctor(elsewhere, capsys)
    assert (status, found["problems"]) == (1, ["NO_REGISTRY"])
    assert not elsewhere.home.exists()


def test_a_job_that_waits_is_no_problem(registry: MadeRegistry) -> None:
    job_id = registry.add_job(ended=False)
    (registry.layout.work(job_id) / "checkpoints").mkdir(parents=True, mode=0o700)
    registry.layout.work(job_id).chmod(0o700)
    assert examine(registry.layout) == []


def test_beside_a_server_only_what_stays_is_wrong(registry: MadeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    link = registry.layout.link("a")
    named = link.readlink()

    def settle(_: float) -> None:
        link.unlink()
        link.symlink_to(named)

    stale_link(registry)
    registry.layout.flat("a", 1).unlink()
    monkeypatch.setattr("lyra_adapters_server.maintenance.doctor.time.sleep", settle)
    with Presence(registry.layout.servers):
        assert [finding.reason for finding in examine(registry.layout)] == ["FLAT_NAME_WRONG"]


def test_files_that_vanish_while_it_looks(registry: MadeRegistry) -> None:
    ended = threading.Event()

    def train() -> None:
        while not ended.is_set():
            work = registry.layout.staging / f"job-{uuid.uuid4()}"
            work.mkdir(mode=0o700)
            for number in range(5):
                (work / f"{number}").mkdir(mode=0o700)
            remove_tree(work)

    with Presence(registry.layout.servers):
        job = threading.Thread(target=train)
        job.start()
        try:
            for _ in range(100):
                assert examine(registry.layout) == []
        finally:
            ended.set()
            job.join()
