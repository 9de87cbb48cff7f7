"""What a server keeps is its user's alone, whatever the umask, and what a restored backup brings is closed too."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from server_process import ServerProcess
from tiny_base import rows

WITHOUT_MASK = (
    sys.executable,
    "-c",
    "import os, sys; os.umask(0); os.execv(sys.executable, [sys.executable, '-m', "
    "'lyra_adapters_server.service.main', *sys.argv[1:]])",
)


def open_to_others(*folders: Path) -> list[str]:
    """Files and directories, below and with the folders, that are not 0600 or 0700; links have no permissions."""
    found = []
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:
                continue
            if not stat.S_ISLNK(mode) and stat.S_IMODE(mode) != (0o700 if stat.S_ISDIR(mode) else 0o600):
                found.append(f"{stat.S_IMODE(mode):04o} {path}")
    return found


def test_nothing_is_open_to_others(tmp_path: Path, start_server: Callable[..., ServerProcess]) -> None:
    server = start_server(command=WITHOUT_MASK).wait_ready()
    stream = server.client.train(
        rows(60), adapter="mine", training={"epochs": 1}, activation="ALWAYS", trigger={"force": True}
    )
    # While the trainer writes, too.
    for _ in stream:
        assert open_to_others(server.home) == []
    names = {path.name for path in server.home.rglob("*")}
    assert names >= {
        *("registry.db", "registry.db-wal", "registry.db-shm", "mine_v1.safetensors", "mine", "mine.json"),
        *("mine_v1", "adapter_model.safetensors", "training.json", "README.md"),
    }
    assert open_to_others(server.home, tmp_path / "cache") == []
    server.stop()

    # As a copy that forgot permissions leaves it; what is not the registry's is left alone.
    theirs = server.home / "notes.txt"
    theirs.touch(mode=0o644)
    for path in server.home.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
    server.home.chmod(0o755)
    again = start_server()
    assert open_to_others(again.home) == [f"0644 {theirs}"]
    assert os.access(theirs, os.R_OK)
