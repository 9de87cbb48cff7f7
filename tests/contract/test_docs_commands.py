"""Every command block of the documentation is run by a test, or says above it why not."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from docs_blocks import COMMAND, PAGES, ROOT, Block, blocks
from lyra_adapters.cli import SERVER_COMMANDS
from lyra_adapters.cli.app import app
from lyra_adapters_server.config import Settings
from server_process import ServerProcess
from tiny_base import rows

HERE = str(Path(__file__).relative_to(ROOT))
BLOCKS = list(blocks())
MINE = [block for block in BLOCKS if block.kind == "run by" and block.what == HERE]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_each_block_is_run_or_says_why_not(block: Block) -> None:
    assert block.kind, f"{block}: needs <!-- run by TEST --> or <!-- not run: REASON --> on the line above"
    if block.kind == "run by":
        test = ROOT / block.what
        assert test.is_file(), f"{block}: there is no {block.what}"
        assert block.what == HERE or Path(block.page).name in test.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def in_force(server: ServerProcess) -> ServerProcess:
    """A server where a version of user_feedback is in force, so that there is something to roll back."""
    stream = server.client.train(
        rows(60), adapter="user_feedback", training={"epochs": 1}, activation="ALWAYS", trigger={"force": True}
    )
    assert stream.result().name == "user_feedback_v1"
    return server


@pytest.mark.parametrize("block", MINE, ids=str)
def test_block(block: Block, in_force: ServerProcess, tmp_path: Path) -> None:
    run(block, in_force, tmp_path)


def run(block: Block, server: ServerProcess, folder: Path) -> None:
    """Runs a block as its reader would, in a folder with their corrections and the checkout's folders."""
    for name in ("docs", "docker", "examples"):
        (folder / name).symlink_to(ROOT / name)
    lines = [json.dumps(row) + "\n" for row in rows(60)]
    (folder / "corrections.jsonl").write_text("".join(lines), encoding="utf-8")
    text = block.text
    for written, real in (
        ("127.0.0.1:50051", server.address),
        ("/var/lib/lyra-adapters", str(server.home)),
        ("/backup/lyra-adapters", str(folder / "backup")),
    ):
        text = text.replace(written, real)
    if block.language == "sh":
        command = ["bash", "-euo", "pipefail", "-c", text]
    else:
        given = "import json\ncorrections = [json.loads(line) for line in open('corrections.jsonl')]\n"
        command = [sys.executable, "-c", given + text]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LYRA_ADAPTERS_")}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
        "LYRA_ADAPTERS_SERVER": server.address,
        "LYRA_ADAPTERS_LISTEN": server.address,
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, f"{block}:\n{done.stdout}\n{done.stderr}"


def test_a_backup_taken_while_the_server_runs_can_be_started(
    in_force: ServerProcess, tmp_path: Path, start_server: Callable[..., ServerProcess]
) -> None:
    (block,) = [block for block in MINE if "lyra-adapters backup" in block.text]
    run(block, in_force, tmp_path)
    before = in_force.client.status()
    home = tmp_path / "restored"

    restored = start_server(home=home)
    after = restored.client.status()
    assert [(a.adapter, a.active, a.pointer_revision) for a in after.adapters] == [
        (a.adapter, a.active, a.pointer_revision) for a in before.adapters
    ]
    assert list(restored.client.versions("user_feedback"))[-1].name == "user_feedback_v1"
    assert json.loads((home / "user_feedback.json").read_text()) == json.loads(
        (in_force.home / "user_feedback.json").read_text()
    )
    assert (home / "user_feedback_v1.safetensors").samefile(home / "user_feedback_v1" / "adapter_model.safetensors")
    assert not restored.logged("mended"), "restore leaves nothing to mend"


def test_the_image_s_health_check(server: ServerProcess) -> None:
    def check(address: str) -> int:
        environment = {"PATH": os.environ["PATH"], "LYRA_ADAPTERS_LISTEN": address, "http_proxy": "http://127.0.0.1:9"}
        command = [sys.executable, str(ROOT / "docker" / "healthcheck.py")]
        return subprocess.run(command, env=environment, capture_output=True, timeout=30).returncode

    assert check(server.address) == 0
    assert check("127.0.0.1:1") == 1


def known_options(words: list[str]) -> set[str]:
    """The options of the command that the words name, `serve` among them."""
    if words[0] == "serve":
        flags = {f"--{name.replace('_', '-')}" for name in Settings.model_fields}
        return flags | {"--config", "--no-reflection", "--help"}
    if words[0] in SERVER_COMMANDS:
        named = [word for word in words[:2] if not word.startswith("-")]
        command = [sys.executable, "-m", "lyra_adapters.cli", *named, "--help"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, f"there is no command `lyra-adapters {' '.join(named)}`"
        return set(re.findall(r"--[a-z-]+", done.stdout))
    command = typer.main.get_command(app)
    found = command.commands[words[0]]  # type: ignore[attr-defined]
    if inner := getattr(found, "commands", None):
        assert words[1] in inner, f"there is no command `lyra-adapters {' '.join(words[:2])}`"
        found = inner[words[1]]
    return {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)} | {
        "--help"
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_blocks_and_prose_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    for match in COMMAND.finditer(text):
        words = shlex.split(match["words"], comments=True)
        if words[0] in ("--help", "--version"):
            continue
        assert words[0] in commands, f"{page.name}: there is no command `lyra-adapters {words[0]}`"
        for word in words[1:]:
            if word.startswith("--"):
                option = word.partition("=")[0]
                assert option in known_options(words), f"{page.name}: lyra-adapters {words[0]} has no {option}"
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE):
        assert target in targets, f"{page.name}: there is no `make {target}`"
    for script in re.findall(r"(?:^|[`\s])python ([\w/.-]+\.py)", text):
        assert (ROOT / script).is_file(), f"{page.name}: there is no {script}"
