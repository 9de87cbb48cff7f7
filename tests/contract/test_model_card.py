"""The snippet of a version's model card runs as it stands, with transformers and peft alone."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest
from server_process import ServerProcess
from train_requests import train_request


def test_snippet_classifies_a_pair(server: ServerProcess) -> None:
    list(server.stub().Train(train_request("carded", domain="sleep research")))
    directory = server.home / "carded_v1"
    card = (directory / "README.md").read_text(encoding="utf-8")
    assert "sleep research" in card
    snippet = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert snippet
    assert "lyra" not in snippet[1]
    done = subprocess.run(
        [sys.executable, "-c", snippet[1]], cwd=directory, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    probabilities = ast.literal_eval(done.stdout.strip().splitlines()[-1])
    assert set(probabilities) == {"SUPPORTS", "REFUTES", "NEUTRAL"}
    assert sum(probabilities.values()) == pytest.approx(1, abs=0.01)
