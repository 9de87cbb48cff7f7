"""A script that knows nothing of the service, with plain transformers and peft, gets the service's scores."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from server_process import ServerProcess
from tiny_base import rows
from train_requests import kinds, train_request

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "score_peft.py"


def test_script_and_service_agree_on_the_held_out_rows(
    start_server: Callable[..., ServerProcess], tiny_base: Path, tmp_path: Path
) -> None:
    server = start_server("--dtype", "float32").wait_ready()
    assert kinds(list(server.stub().Train(train_request("outside", count=90, epochs=6))))[-1] == "succeeded"
    version = server.home / "outside_v1"
    held_out = set(json.loads((version / "training.json").read_text())["data"]["held_out_ids"])
    file = tmp_path / "held_out.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows(90) if row["id"] in held_out))
    metrics = json.loads((version / "metrics.json").read_text())

    for which, flags in {
        "after": ["--adapter", str(version)],
        "before": ["--prompt", str(version / "prompt.json")],
    }.items():
        command = [sys.executable, str(SCRIPT), str(file), "--base", str(tiny_base), "--dtype", "float32", *flags]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=100).stdout)
        said = metrics[which]
        assert found["rows"] == said["samples"]
        assert found["confusion"] == [list(row.values()) for row in said["confusion"].values()]
        for key in ("accuracy", "macro_f1", "brier"):
            assert found[key] == pytest.approx(said[key], abs=1e-4), (which, key)
