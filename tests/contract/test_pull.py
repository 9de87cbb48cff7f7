"""`lyra-adapters pull`: what a serving host's directory and engine get, on a fake server and real HTTP servers."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from http_engines import HttpServer, LlamaCppServer, VllmServer
from lyra_adapters import PointerChange, PointerChangeKind
from lyra_adapters.cli import main
from lyra_adapters.testing import FakeAdapterServer

NAMES = [f"user_feedback_v{number}" for number in (1, 2, 3, 4)]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAdapterServer]:
    """A server with four versions, none of them in force yet."""
    with FakeAdapterServer() as server:
        monkeypatch.setenv("LYRA_ADAPTERS_SERVER", server.target)
        for name in NAMES:
            config = json.dumps({"name": name}).encode()
            server.files[name] = {"adapter_config.json": config, "adapter_model.safetensors": name.encode() * 900}
        yield server


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "adapters"


def activate(fake: FakeAdapterServer, version: str) -> None:
    fake.pointers.move("user_feedback", f"user_feedback_{version}", PointerChangeKind.ACTIVATED)


def rollback(fake: FakeAdapterServer, to: str = "") -> None:
    fake.pointers.back("user_feedback", to, actor="", reason="", expected="")


def pull(there: Path, *options: str) -> int:
    return main(["pull", "user_feedback", "--to", str(there), *options])


def state(there: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((there / "user_feedback.json").read_text())
    return found


def check(there: Path, fake: FakeAdapterServer, name: str) -> None:
    """The directory says that `name` is in force, and has it whole."""
    link = there / "user_feedback"
    assert state(there)["active"] == name
    if name == "base":
        assert not os.path.lexists(link)
        return
    assert str(link.readlink()) == name
    assert {path.name: path.read_bytes() for path in link.iterdir()} == fake.files[name]


def until(true: Callable[[], Any], seconds: float = 60.0) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.02)


class Following:
    """`pull --follow` in a process of its own; a context manager."""

    def __init__(
        self, there: Path, *options: str, environment: dict[str, str] | None = None, before: tuple[str, ...] = ()
    ) -> None:
        self._out = there.parent / "following.out"
        command = [*before, sys.executable, "-m", "lyra_adapters.cli", "pull", "user_feedback", "--to", str(there)]
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, "--follow", "--json", *options], stdout=out, env={**os.environ, **(environment or {})}
            )

    def reports(self, what: str = "") -> list[dict[str, Any]]:
        """What it has told so far."""
        text = self._out.read_text()
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in lines if what in ("", line["what"])]

    def wait_for(self, what: str, **details: Any) -> None:
        """Until it has told this."""
        until(lambda: any(details.items() <= report.items() for report in self.reports(what)))

    def __enter__(self) -> Following:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.process.kill()
            self.process.wait(20)
            return
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0


# ------------------------------------------------------------------------------------------------- the directory


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


# ------------------------------------------------------------------------------------------------------- hooks


def test_a_command_is_told_in_its_environment_and_no_shell_reads_it(
    fake: FakeAdapterServer, there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = tmp_path / "seen"
    there = tmp_path / "a $(touch evil) `touch evil`; touch evil"
    script = tmp_path / "script"
    script.write_text(
        f'#!/bin/sh\necho "$1|$LYRA_ADAPTER|$LYRA_ADAPTER_ACTIVE|$LYRA_ADAPTER_VERSION|$LYRA_ADAPTER_PATH|'
        f"$LYRA_ADAPTER_PREVIOUS|$LYRA_ADAPTER_REVISION\" >> '{seen}'\n"
    )
    script.chmod(0o755)
    command = f"'{script}' '$HOME;x'"
    activate(fake, "v1")
    assert pull(there, "--run", command) == 0
    assert pull(there, "--run", command) == 0
    activate(fake, "v2")
    assert pull(there, "--run", command) == 0
    rollback(fake, "base")
    assert pull(there, "--run", command) == 0
    assert seen.read_text().splitlines() == [
        f"$HOME;x|user_feedback|user_feedback_v1|v1|{there}/user_feedback_v1||1",
        f"$HOME;x|user_feedback|user_feedback_v2|v2|{there}/user_feedback_v2|user_feedback_v1|2",
        "$HOME;x|user_feedback|base|base||user_feedback_v2|3",
    ]
    assert not list(tmp_path.rglob("evil"))


def test_a_command_that_fails_stays_pending(
    fake: FakeAdapterServer, there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ready, seen = tmp_path / "ready", tmp_path / "seen"
    command = f"sh -c 'test -e {ready} && echo $LYRA_ADAPTER_ACTIVE >> {seen}'"
    activate(fake, "v1")
    assert pull(there, "--run", command, "--keep", "0") == 1
    assert "sh ended with status 1. The directory is in step" in capsys.readouterr().err
    check(there, fake, "user_feedback_v1")
    with Following(there, "--run", command, "--keep", "0") as following:
        following.wait_for("hook_failed", active="user_feedback_v1")
        # It does not hold up the next change, and nothing that a hook may still use is removed.
        activate(fake, "v2")
        following.wait_for("hook_failed", active="user_feedback_v2")
        assert (there / "user_feedback_v1").is_dir()
        ready.touch()
        following.wait_for("pruned")
    assert seen.read_text().splitlines() == ["user_feedback_v2"]
    assert not (there / "user_feedback_v1").exists()


def test_a_command_that_hangs_is_ended(fake: FakeAdapterServer, there: Path) -> None:
    activate(fake, "v1")
    begun = time.monotonic()
    assert pull(there, "--run", "sh -c 'sleep 600 & wait'", "--hook-timeout", "0.3") == 1
    with Following(there, "--run", "sleep 600") as following:
        following.wait_for("in_force")
        time.sleep(0.3)
    assert time.monotonic() - begun < 15


def test_a_post(fake: FakeAdapterServer, there: Path) -> None:
    activate(fake, "v1")
    with HttpServer() as hook, Following(there, "--post", f"{hook.url}/changed?token=secret") as following:
        following.wait_for("hook_done", active="user_feedback_v1")
        hook.failing = 503
        activate(fake, "v2")
        following.wait_for("hook_failed", active="user_feedback_v2")
        hook.failing = None
        following.wait_for("hook_done", active="user_feedback_v2")
        assert hook.posted()[0] == {
            "adapter": "user_feedback",
            "active": "user_feedback_v1",
            "version": "v1",
            "previous": "",
            "pointer_revision": 1,
            "path": str(there / "user_feedback_v1"),
        }
        assert hook.posted()[-1]["previous"] == "user_feedback_v1"
        assert "503: out of order" in following.reports("hook_failed")[0]["message"]
        assert "secret" not in json.dumps(following.reports())
    assert "secret" not in (there / ".user_feedback.hooks.json").read_text()


def test_a_password_in_a_url_is_sent_and_not_shown(fake: FakeAdapterServer, there: Path) -> None:
    activate(fake, "v1")
    with HttpServer() as hook, pytest.MonkeyPatch.context() as patch:
        sent: list[str] = []
        patch.setattr(hook, "heard", lambda headers: sent.append(headers["Authorization"]))
        hook.failing = 500
        url = hook.url.replace("://", "://ana:p%40ss@")
        with Following(there, "--post", url) as following:
            following.wait_for("hook_failed")
            assert "ss@" not in json.dumps(following.reports())
    assert sent[0] == "Basic YW5hOnBAc3M="


def test_vllm_serves_what_is_in_force(fake: FakeAdapterServer, there: Path) -> None:
    activate(fake, "v1")
    environment = {"VLLM_API_KEY": "sk-key"}
    with VllmServer("sk-key") as vllm, Following(there, "--vllm", f"{vllm.url}/v1", environment=environment) as pulling:
        for step, name in ((None, NAMES[0]), ("v2", NAMES[1]), ("back", NAMES[0]), ("v3", NAMES[2])):
            if step:
                rollback(fake) if step == "back" else activate(fake, step)
            until(lambda name=name: set(vllm.loaded) == {"someone_elses", name})
            assert vllm.loaded[name] == str(there / name)
        # The new one is there before the old one goes.
        asked = [(path.rpartition("/")[2], body["lora_name"]) for method, path, body in vllm.calls if method == "POST"]
        assert asked[1:3] == [("load_lora_adapter", NAMES[1]), ("unload_lora_adapter", NAMES[0])]
        rollback(fake, "base")
        until(lambda: set(vllm.loaded) == {"someone_elses"})
        pulling.wait_for("hook_done", active="base")


def test_a_vllm_that_was_started_anew_gets_its_adapter_again(fake: FakeAdapterServer, there: Path) -> None:
    activate(fake, "v1")
    with VllmServer() as vllm:
        assert pull(there, "--vllm", vllm.url) == 0
        vllm.loaded.clear()
        assert pull(there, "--vllm", vllm.url) == 0
        assert set(vllm.loaded) == {"user_feedback_v1"}


def test_a_vllm_in_a_container_sees_another_directory(
    fake: FakeAdapterServer, there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    activate(fake, "v1")
    with VllmServer() as vllm:
        assert pull(there, "--vllm", vllm.url, "--engine-dir", "/mnt/adapters") == 1
        assert vllm.posted()[0] == {"lora_name": "user_feedback_v1", "lora_path": "/mnt/adapters/user_feedback_v1"}
        assert "No adapter found" in capsys.readouterr().err
    assert pull(there, "--vllm", vllm.url) == 1
    assert "can't be reached" in capsys.readouterr().err
    with HttpServer() as other:
        assert pull(there, "--vllm", other.url) == 1
        assert "does not answer like vLLM" in capsys.readouterr().err


def test_llama_server_applies_what_is_in_force(fake: FakeAdapterServer, there: Path) -> None:
    # By the version's directory, and by the file's name, wherever it is.
    paths = [f"{there}/{NAMES[0]}/adapter.gguf", f"models/{NAMES[1]}.gguf"]
    activate(fake, "v1")
    with (
        LlamaCppServer("/other/style.gguf", *paths) as llama,
        Following(there, "--llama-server", llama.url) as following,
    ):
        until(lambda: llama.scales == [1.0, 1.0, 0.0])
        activate(fake, "v2")
        until(lambda: llama.scales == [1.0, 0.0, 1.0])
        # One that it was not started with: the old one stays, and it is said what to do.
        activate(fake, "v3")
        following.wait_for("hook_failed", active="user_feedback_v3")
        (failed,) = following.reports("hook_failed")
        assert f"--lora and the GGUF file in {there}/user_feedback_v3" in failed["message"]
        assert llama.scales == [1.0, 0.0, 1.0]
        rollback(fake, "base")
        until(lambda: llama.scales == [1.0, 0.0, 0.0])


def test_llama_server_started_through_the_link_is_not_trusted(
    fake: FakeAdapterServer, there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    activate(fake, "v1")
    with LlamaCppServer(f"{there}/user_feedback/adapter.gguf") as llama:
        assert pull(there, "--llama-server", llama.url) == 1
        assert "through the link user_feedback" in capsys.readouterr().err
        assert llama.posted() == []
