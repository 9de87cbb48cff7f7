"""`lyra-adapters pull`: what a serving host's directory gets, on a fake server."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
from lyra_adapters import PointerChange
from lyra_adapters.cli import main
from lyra_adapters.testing import FakeAdapterServer
from pulling import NAMES, Following, activate, check, pull, rollback, until


def test_once(fake: FakeAdapterServer, there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    activate(fake, "v2")
    assert pull(there) == 0
    check(there, fake, "user_feedback_v2")
    assert "user_feedback_v2 is in force (revision 1)" in capsys.readouterr().out
    rollback(fake)
    assert pull(there, "--json") == 0
    check(there, fake, "base")
    (report,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (report["what"], report["active"], report["pointer_revision"]) == ("in_force", "base", 2)
    assert {path.name for path in there.iterdir()} == {"user_feedback.json", "user_feedback_v2"}


def test_every_change_while_following(fake: FakeAdapterServer, there: Path) -> None:
    with Following(there) as following:
        following.wait_for("waiting")
        activate(fake, "v1")
        following.wait_for("in_force", active="user_feedback_v1")
        check(there, fake, "user_feedback_v1")
        activate(fake, "v2")
        following.wait_for("in_force", active="user_feedback_v2")
        fake.restart()
        rollback(fake)
        following.wait_for("in_force", active="user_feedback_v1", pointer_revision=3)
        check(there, fake, "user_feedback_v1")
        rollback(fake, "base")
        following.wait_for("in_force", active="base")
        check(there, fake, "base")


def test_a_server_that_is_away_is_waited_for(fake: FakeAdapterServer, there: Path) -> None:
    activate(fake, "v1")
    fake.stop()
    with Following(there) as following:
        following.wait_for("failed")
        fake.start()
        following.wait_for("mended")
        following.wait_for("in_force", active="user_feedback_v1")
    assert pull(there) == 0


def test_a_restored_registry_is_followed(fake: FakeAdapterServer, there: Path) -> None:
    for version in ("v1", "v2", "v3"):
        activate(fake, version)
    with Following(there) as following:
        following.wait_for("in_force", active="user_feedback_v3", pointer_revision=3)
        fake.stop()
        del fake.pointers.changes[1:]
        fake.start()
        following.wait_for("in_force", active="user_feedback_v1", pointer_revision=1)
    check(there, fake, "user_feedback_v1")


def test_what_is_damaged_is_mended(fake: FakeAdapterServer, there: Path) -> None:
    activate(fake, "v1")
    pull(there)
    (there / "user_feedback_v1" / "adapter_model.safetensors").write_bytes(b"rotten")
    (there / "user_feedback.json").write_text("{")
    (there / "user_feedback").unlink()
    assert pull(there) == 0
    check(there, fake, "user_feedback_v1")


def test_leftovers_of_killed_pulls_go_and_others_stay(fake: FakeAdapterServer, there: Path) -> None:
    there.mkdir()
    digits = "0" * 32
    for name in (".user_feedback_v9.part", ".other_v9.part", "user_feedback_v4", "mine"):
        (there / name).mkdir()
        (there / name / "file").write_bytes(b"x")
    for name in (f".user_feedback.json.{digits}.new", f"..user_feedback.hooks.json.{digits}.new", ".mine.new"):
        (there / name).write_bytes(b"x")
    (there / f".user_feedback.{digits}.link").symlink_to("user_feedback_v9")
    activate(fake, "v1")
    assert pull(there) == 0
    assert {path.name for path in there.iterdir()} == {
        *("user_feedback", "user_feedback.json", "user_feedback_v1"),
        *(".other_v9.part", "user_feedback_v4", "mine", ".mine.new"),
    }


def test_old_versions_are_removed_on_request(fake: FakeAdapterServer, there: Path) -> None:
    for version in ("v1", "v2", "v3", "v4"):
        activate(fake, version)
        pull(there)
    rollback(fake, "v2")
    pull(there)
    kept = lambda: sorted(path.name for path in there.iterdir() if path.is_dir() and not path.is_symlink())  # noqa: E731
    assert kept() == NAMES
    pull(there, "--keep", "1")
    assert kept() == ["user_feedback_v2", "user_feedback_v4"]
    pull(there, "--keep", "0")
    assert kept() == ["user_feedback_v2"]
    check(there, fake, "user_feedback_v2")


def test_two_pulls_in_one_directory(fake: FakeAdapterServer, there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    activate(fake, "v1")
    with Following(there) as following:
        following.wait_for("in_force")
        assert pull(there) == 5
        assert "Another pull keeps user_feedback" in capsys.readouterr().err
        assert main(["pull", "other", "--to", str(there)]) == 4


# -------------------------------------------------------------------------------------------------- bad input


def test_unknown_names(fake: FakeAdapterServer, there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pull(there) == 4
    assert "no adapter 'user_feedback'" in capsys.readouterr().err
    assert main(["pull", "../up", "--to", str(there)]) == 3
    assert "no adapter name" in capsys.readouterr().err
    assert pull(there, "--format", "zip") == 3
    assert pull(there, "--vllm", "ftp://x") == 2
    assert pull(there, "--run", "  ") == 2
    assert sorted(there.glob("*")) == []


@pytest.mark.parametrize("name", ["../../etc", "user_feedback_v1/../../x", "other_v1", "user_feedback", "", "/etc"])
def test_names_that_a_server_should_not_send(
    fake: FakeAdapterServer, there: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.files[name] = fake.files["user_feedback_v1"]
    fake.pointers.changes.append(PointerChange(adapter="user_feedback", pointer_revision=1, active=name))
    assert pull(there) == 1
    assert "is no version of user_feedback" in capsys.readouterr().err or not name
    assert [path for path in tmp_path.rglob("*") if path != there] == []


def test_links_lead_nowhere(fake: FakeAdapterServer, there: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"x")
    there.mkdir()
    for name in ("user_feedback_v1", ".user_feedback_v1.part", ".user_feedback.lock", ".user_feedback_v7.part"):
        (there / name).symlink_to(outside)
    (there / "user_feedback.json").symlink_to(outside / "state")
    activate(fake, "v1")
    assert pull(there, "--run", "true", "--keep", "0") == 0
    check(there, fake, "user_feedback_v1")
    assert not (there / "user_feedback_v1").is_symlink()
    assert not (there / "user_feedback.json").is_symlink()
    assert [path.name for path in outside.iterdir()] == ["precious"]


def test_something_else_where_the_link_belongs(
    fake: FakeAdapterServer, there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (there / "user_feedback").mkdir(parents=True)
    (there / "user_feedback" / "mine").write_bytes(b"x")
    activate(fake, "v1")
    assert pull(there) == 3
    assert "is no link" in capsys.readouterr().err
    assert (there / "user_feedback" / "mine").read_bytes() == b"x"


def test_a_full_disk_leaves_what_was_in_force_and_is_tried_again(fake: FakeAdapterServer, there: Path) -> None:
    fake.files["user_feedback_v2"]["adapter_model.safetensors"] = b"x" * 100_000
    activate(fake, "v1")
    # A limit on the size of files is the nearest thing to a full disk that needs no rights.
    with Following(there, before=("bash", "-c", 'ulimit -S -f 50; exec "$@"', "-")) as following:
        following.wait_for("in_force", active="user_feedback_v1")
        activate(fake, "v2")
        following.wait_for("failed", active="user_feedback_v2")
        (failed,) = following.reports("failed")
        assert "File too large" in failed["message"]
        assert failed["retry_in"] > 0
        check(there, fake, "user_feedback_v1")
        until(lambda: not list(there.glob(".*.part")))
        _, hard = resource.prlimit(following.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(following.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        following.wait_for("mended", active="user_feedback_v2")
        check(there, fake, "user_feedback_v2")
