"""Record, train, classify, roll back, from a shell: with the CLI, and with grpcurl."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp_talk import environment
from server_process import ServerProcess
from test_grpcurl import GRPCURL, SERVICE, objects
from tiny_base import rows

ROWS = rows(60)
TRAINING = {"epochs": 8, "learning_rate": 0.01}

Labels = list[str]


def run(command: list[str], given: str = "", code: int = 0) -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, env=environment())
    assert done.returncode == code, done.stderr
    return done.stdout


class Cli:
    """`lyra-adapters`."""

    def __init__(self, server: ServerProcess, work: Path) -> None:
        self._server, self._work = server, work

    def _lyra(self, *words: str, code: int = 0) -> str:
        return run([sys.executable, "-m", "lyra_adapters.cli", *words, "--server", self._server.address], code=code)

    def record(self, reviews: list[dict[str, Any]]) -> None:
        (self._work / "reviews.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reviews))
        self._lyra("feedback", "import", str(self._work / "reviews.jsonl"), "--task-id", "desk")

    def train(self) -> str:
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in TRAINING.items()]
        told = self._lyra("train", "--feedback", "--task-id", "desk", "--activation=always", "--json", *flags)
        events = [json.loads(line) for line in told.splitlines()]
        assert any(event["kind"] == "progress" for event in events)
        assert events[-1]["kind"] == "succeeded", events[-1]
        return str(events[-1]["succeeded"]["version"])

    def classify(self) -> Labels:
        (self._work / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs()))
        told = self._lyra("classify", str(self._work / "pairs.jsonl"), "--json")
        return [json.loads(line)["label"] for line in told.splitlines()]

    def roll_back(self) -> str:
        told = json.loads(self._lyra("rollback", "--task-id", "desk", "--reason", "worse", "--json"))
        return str(told["change"]["active"])


class Grpcurl:
    """The real grpcurl, with nothing but the server's own description of itself."""

    def __init__(self, server: ServerProcess, work: Path) -> None:
        self._address = server.address

    def _call(self, rpc: str, request: dict[str, Any]) -> list[dict[str, Any]]:
        command = [str(GRPCURL), "-plaintext", "-d", "@", self._address, f"{SERVICE}/{rpc}"]
        return objects(run(command, json.dumps(request)))

    def record(self, reviews: list[dict[str, Any]]) -> None:
        labels = ("correct_label", "original_label")
        samples = [{**row, **{name: f"LABEL_{row[name]}" for name in labels}} for row in reviews]
        self._call("RecordFeedback", {"reviews": [{"sample": row, "task_id": "desk"} for row in samples]})

    def train(self) -> str:
        request = {"feedback": {}, "task_id": "desk", "activation": "ACTIVATION_ALWAYS", "training": TRAINING}
        events = self._call("Train", request)
        assert any("progress" in event for event in events)
        return str(events[-1]["succeeded"]["version"])

    def classify(self) -> Labels:
        (answer,) = self._call("Classify", {"pairs": pairs()})
        return [result["label"].removeprefix("LABEL_") for result in answer["results"]]

    def roll_back(self) -> str:
        (answer,) = self._call("Rollback", {"task_id": "desk", "reason": "worse"})
        return str(answer["change"]["active"])


def pairs() -> list[dict[str, str]]:
    return [{"premise": row["premise"], "hypothesis": row["hypothesis"]} for row in ROWS]


@pytest.mark.parametrize("shell", [Cli, Grpcurl])
def test_a_corrected_pair_is_right_and_after_a_rollback_wrong(
    shell: type[Cli | Grpcurl], start_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    caller = shell(start_server().wait_ready(), tmp_path)
    caller.record(ROWS)
    assert caller.train() == "user_feedback_v1"
    after = caller.classify()
    assert caller.roll_back() == "base"
    before = caller.classify()
    right = [row["correct_label"] for row in ROWS]
    assert sum(was != is_ == wanted for was, is_, wanted in zip(before, after, right, strict=True)) > 10
    assert sum(map(str.__eq__, after, right)) > sum(map(str.__eq__, before, right))
