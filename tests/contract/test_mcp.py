"""Models' tools on a real service: record, calibrate, wait, see a pair put right, roll back, see it wrong again."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from docs_blocks import ROOT
from mcp import Client
from mcp_talk import COMMAND, TRANSPORTS, answer, environment, http_server, over_stdio, refusal
from server_process import ServerProcess
from tiny_base import rows

ROWS = rows(60)
SPELLINGS = {
    "SUPPORTS": ["SUPPORTS", "supports", "entailment"],
    "REFUTES": ["REFUTES", "contradicts", "LABEL_REFUTES"],
    "NEUTRAL": ["neutral", "not enough info", "NEI"],
}
TRAINING = {"epochs": 8, "learning_rate": 0.01}


def reviews(task: str = "", count: int = len(ROWS)) -> list[dict[str, Any]]:
    """Reviews as a model would send them, their labels in every spelling; a task's own pairs."""
    made = []
    for number, row in enumerate(rows(count)):
        words = SPELLINGS[row["correct_label"]]
        review = {**row, "correct_label": words[number % len(words)]}
        made.append({**review, "id": f"{task}{row['id']}", "premise": f"{task} {row['premise']}".strip()})
    return made


def pairs() -> list[dict[str, str]]:
    return [{"premise": row["premise"], "hypothesis": row["hypothesis"]} for row in ROWS]


async def labels(client: Client, some: list[dict[str, str]], **arguments: Any) -> list[str]:
    found = await answer(client, "classify_pairs", pairs=some, **arguments)
    for result in found["results"]:
        assert result["supports"] + result["refutes"] + result["neutral"] == pytest.approx(1, abs=1e-3)
    return [result["label"] for result in found["results"]]


async def finished(client: Client, job_id: str) -> tuple[dict[str, Any], list[list[float]]]:
    """The job's end, and the progress of each call that waited for it."""
    every: list[list[float]] = []
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        seen: list[float] = []

        async def progress(value: float, total: float | None, message: str | None, seen: list[float] = seen) -> None:
            assert (total, bool(message)) == (100, True)
            seen.append(value)

        result = await client.call_tool("calibrate_wait", {"job_id": job_id, "seconds": 20}, progress_callback=progress)
        assert not result.is_error, result.content
        assert result.structured_content
        every.append(seen)
        if result.structured_content["finished"]:
            return result.structured_content, every
    raise AssertionError("the job did not end")


async def whole_story(client: Client, server: ServerProcess) -> None:
    # Not enough yet: what is missing is said, and nothing is started.
    some = reviews()
    stored = await answer(client, "record_feedback", reviews=some[:32], task_id="desk", domain="sleep")
    assert (stored["stored"], stored["training_due"]["due"]) == (32, False)
    early = await answer(client, "calibrate", task_id="desk", source="feedback", min_samples=50)
    assert (early["started"], early["job_id"], early["job"]) == (False, "", None)
    assert (early["missing"]["have_samples"], early["missing"]["need_samples"]) == (32, 50)
    assert early["missing"]["have_error_rate"] == 1
    assert "32 of 50" in early["missing"]["explanation"]

    stored = await answer(client, "record_feedback", reviews=some, task_id="desk", domain="sleep")
    assert (stored["stored"], stored["unchanged"]) == (28, 32)
    assert stored["training_due"]["due"]
    before = await labels(client, pairs())
    started = time.monotonic()
    job = await answer(client, "calibrate", task_id="desk", training=TRAINING, activation="always")
    assert time.monotonic() - started < 5
    assert job["started"]
    assert job["job"]["actor"] == "lyra-desk"

    end, progress = await finished(client, job["job_id"])
    assert (end["state"], end["version"], end["verdict"]["activated"]) == ("SUCCEEDED", "user_feedback_v1", True)
    assert all(one < other for call in progress for one, other in itertools.pairwise(call))
    assert progress[-1][-1] == 100
    assert len(progress[-1]) > 2
    assert (await answer(client, "calibrate_status", task_id="desk"))["job"]["job_id"] == job["job_id"]

    after = await labels(client, pairs())
    right = [row["correct_label"] for row in ROWS]
    corrected = [i for i in range(len(ROWS)) if before[i] != right[i] == after[i]]
    assert len(corrected) > 10
    assert sum(a == b for a, b in zip(after, right, strict=True)) > sum(
        a == b for a, b in zip(before, right, strict=True)
    )
    mine = [pairs()[corrected[0]]]
    assert await labels(client, mine) == [right[corrected[0]]]

    back = await answer(client, "calibrate_rollback", task_id="desk", reason="worse on my papers")
    assert (back["changed"], back["in_force"], back["previous"]) == (True, "base", "user_feedback_v1")
    assert await labels(client, mine) == [before[corrected[0]]] != [right[corrected[0]]]
    again = await answer(client, "calibrate_rollback", task_id="desk", version="user_feedback_v1")
    assert (again["in_force"], again["also_touched"]) == ("user_feedback_v1", [])
    assert await labels(client, mine) == [right[corrected[0]]]
    bare = await answer(client, "calibrate_rollback", adapter="user_feedback", base=True)
    assert bare["in_force"] == "base"

    listing = await answer(client, "calibrate_versions", adapter="user_feedback", include_history=True)
    assert [version["name"] for version in listing["versions"]] == ["user_feedback_v1"]
    assert [change["in_force"] for change in listing["history"]] == [
        "base",
        "user_feedback_v1",
        "base",
        "user_feedback_v1",
    ]
    assert {change["actor"] for change in listing["history"]} == {"lyra-desk"}
    assert listing["history"][2]["reason"] == "worse on my papers"
    assert (await answer(client, "calibrate_status"))["service"]["adapters"][0]["in_force"] == "base"
    assert {review.actor for review in server.client.feedback()} == {"lyra-desk"}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_whole_story(transport: str, start_server: Callable[..., ServerProcess], tmp_path: Path) -> None:
    server = start_server().wait_ready()
    log = tmp_path / "mcp.log"

    async def run() -> None:
        async with TRANSPORTS[transport](server.address, log) as client:
            await whole_story(client, server)

    asyncio.run(run())
    written = log.read_text(encoding="utf-8")
    assert "Traceback" not in written
    assert not any(row["premise"] in written or row["hypothesis"] in written for row in ROWS)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_client_of_the_older_protocol(transport: str, server: ServerProcess, tmp_path: Path) -> None:
    async def run() -> None:
        async with TRANSPORTS[transport](server.address, tmp_path / "mcp.log", mode="legacy") as client:
            assert len((await client.list_tools()).tools) == 8
            assert (await answer(client, "calibrate_status"))["service"]["base_models"][0]["state"] == "READY"
            await answer(client, "record_feedback", reviews=reviews("older ", 1), task_id="older")

    asyncio.run(run())
    (review,) = server.client.feedback(task_ids=["older"])
    assert review.actor == "lyra-desk"


def test_a_rollback_names_the_other_tasks(server: ServerProcess, tmp_path: Path) -> None:
    async def run() -> None:
        async with over_stdio(server.address, tmp_path / "mcp.log") as client:
            for task in ("one", "two"):
                await answer(client, "record_feedback", reviews=reviews(f"{task} "), task_id=task)
                job = await answer(
                    client,
                    "calibrate",
                    task_id=task,
                    source="task_feedback",
                    adapter="shared",
                    activation="always",
                    training={"epochs": 1, "learning_rate": 0.01},
                )
                assert job["job"], (job, server.process.poll(), server.lines[-12:])
                assert job["job"]["samples"] == 60
                await finished(client, job["job_id"])
            back = await answer(client, "calibrate_rollback", task_id="two", version="v1", actor="ada")
            assert (back["in_force"], back["previous"]) == ("shared_v1", "shared_v2")
            assert back["also_touched"] == [{"task_id": "one", "versions": ["shared_v1"]}]
            assert "one" in back["next"]
            assert "not of" in await refusal(client, "calibrate_rollback", adapter="other", version="shared_v2")
            said = await refusal(client, "calibrate_rollback", task_id="older", version="shared_v2")
            assert "has trained no version of shared" in said
            said = await refusal(client, "calibrate_rollback", adapter="shared", expected_active="v2")
            assert "calibrate_versions" in said
            same = await answer(client, "calibrate_rollback", adapter="shared", version="v1")
            assert same["changed"] is False
            page = await answer(client, "calibrate_versions", adapter="shared", limit=1)
            assert (page["total"], len(page["versions"]), bool(page["next_page_token"])) == (2, 1, True)
            # Nothing is new, and the next question shall know the error rate as well.
            none = await answer(
                client, "calibrate", task_id="two", source="task_feedback", adapter="shared", only_new=True
            )
            assert (none["started"], none["missing"]["have_samples"]) == (False, 0)

    asyncio.run(run())


def test_reviews_that_were_mostly_right_are_not_due(server: ServerProcess, tmp_path: Path) -> None:
    some = reviews("right ")
    for number, review in enumerate(some):
        if number >= 3:
            review["original_label"] = review["correct_label"]

    async def run() -> None:
        async with over_stdio(server.address, tmp_path / "mcp.log") as client:
            await answer(client, "record_feedback", reviews=some, task_id="right")
            refused = await answer(client, "calibrate", task_id="right", source="task_feedback", adapter="right")
            missing = refused["missing"]
            assert (missing["have_samples"], missing["have_error_rate"], missing["need_error_rate"]) == (60, 0.05, 0.1)
            assert "5.0% of 10.0%" in missing["explanation"]
            forced = await answer(
                client, "calibrate", task_id="right", source="task_feedback", adapter="right", min_error_rate=0.05
            )
            assert forced["started"]
            stopped = await answer(client, "calibrate_cancel", job_id=forced["job_id"], reason="changed my mind")
            assert stopped["cancel_requested"] or stopped["finished"]
            end, _ = await finished(client, forced["job_id"])
            assert end["state"] in ("CANCELLED", "SUCCEEDED")
            said = await refusal(client, "calibrate_cancel", job_id=forced["job_id"])
            assert "nothing to cancel" in said

    asyncio.run(run())


def test_refusals_of_the_service(server: ServerProcess, tmp_path: Path) -> None:
    async def run() -> None:
        async with over_stdio(server.address, tmp_path / "mcp.log") as client:
            for tool, arguments, said in (
                ("calibrate_status", {"job_id": "none"}, "calibrate_status with task_id"),
                ("calibrate_rollback", {"task_id": "nobody's"}, "calibrate_status lists them"),
                ("calibrate_rollback", {"adapter": "nothing"}, "Nothing was trained under this name"),
                ("classify_pairs", {"pairs": pairs()[:1], "adapter": "nothing"}, "Nothing was trained under this name"),
                ("classify_pairs", {"pairs": [{"premise": " ", "hypothesis": "x"}]}, "pairs[0].premise"),
                ("calibrate", {"task_id": "t", "force": True, "base_model": "other"}, "calibrate_status lists"),
                ("calibrate", {"task_id": "t", "force": True, "training": {"epochs": 0}}, "training.epochs"),
                ("calibrate", {"task_id": "t", "adapter": "Bad Name"}, "Correct the arguments"),
                (
                    "record_feedback",
                    {"reviews": [{**reviews("x", 1)[0], "hypothesis": ""}]},
                    "reviews[0].hypothesis",
                ),
            ):
                text = await refusal(client, tool, **arguments)
                assert said in text, (tool, text)

    asyncio.run(run())


def test_no_service_is_said_within_seconds(tmp_path: Path) -> None:
    async def run() -> None:
        async with over_stdio("127.0.0.1:1", tmp_path / "mcp.log") as client:
            for tool, arguments in (("calibrate_status", {}), ("calibrate", {"task_id": "t"})):
                started = time.monotonic()
                text = await refusal(client, tool, **arguments)
                assert "127.0.0.1:1" in text
                assert "lyra-adapters serve" in text
                assert time.monotonic() - started < 15

    asyncio.run(run())


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Host": "evil.example"}, 421), ({"Origin": "http://evil.example"}, 403), ({}, None)],
)
def test_a_web_page_cannot_reach_it(headers: dict[str, str], status: int | None, tmp_path: Path) -> None:
    hello = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    fixed = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    with http_server("127.0.0.1:1", tmp_path / "mcp.log") as (url, _):
        request = urllib.request.Request(url, json.dumps(hello).encode(), {**fixed, **headers})
        try:
            with urllib.request.urlopen(request, timeout=10) as found:
                got = found.status
        except urllib.error.HTTPError as error:
            got = error.code
            error.close()
    assert got == status if status else got not in (403, 421)


def test_it_stops_when_told(tmp_path: Path) -> None:
    with http_server("127.0.0.1:1", tmp_path / "mcp.log") as (_, process):
        started = time.monotonic()
        process.terminate()
        process.wait(20)
        assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--http", "0.0.0.0:0"], "--allow-host"),
        (["--http", "nowhere"], "HOST:PORT"),
        (["--allow-host", "x"], "--http"),
        (["--server", "192.0.2.1:1", "--token-file", "t"], "unencrypted"),
    ],
)
def test_options_that_cannot_be_meant(flags: list[str], said: str) -> None:
    done = subprocess.run([*COMMAND, *flags], env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert said in done.stderr


def test_the_configuration_in_the_readme(server: ServerProcess, tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]
    (configured,) = [entry["mcpServers"]["lyra-adapters"] for entry in found if "mcpServers" in entry]
    assert "127.0.0.1:50051" in configured["args"]
    flags = [argument.replace("127.0.0.1:50051", server.address) for argument in configured["args"]]
    script = Path(COMMAND[0]).parent / configured["command"]
    command = [str(script), *flags]

    async def run() -> None:
        async with over_stdio(server.address, tmp_path / "mcp.log", command=command) as client:
            assert (await answer(client, "calibrate_status"))["service"]["version"]

    asyncio.run(run())
