"""`lyra-adapters pull`: what commands and engines are told, on a fake server and real HTTP servers."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from http_engines import HttpServer, LlamaCppServer, VllmServer
from lyra_adapters.testing import FakeAdapterServer
from pulling import NAMES, Following, activate, check, pull, rollback, until


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
