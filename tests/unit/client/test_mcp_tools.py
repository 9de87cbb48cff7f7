"""The MCP tools on a fake service, in one process: schemas, hints, refusals, who asks, progress."""

from __future__ import annotations

import asyncio
import itertools
import logging
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc
import pytest
from lyra_adapters import models
from lyra_adapters.channel import Connection
from lyra_adapters.mcp.advice import BY_REASON
from lyra_adapters.mcp.logs import Wordless
from lyra_adapters.mcp.progress import Climb
from lyra_adapters.mcp.server import LyraServer
from lyra_adapters.mcp.web import Place
from lyra_adapters.testing import FakeAdapterServer, training_script
from mcp import Client
from mcp.types import Implementation

PAIR = {"premise": "Naps helped.", "hypothesis": "Naps help."}
REVIEW = {**PAIR, "correct_label": "supports"}


@pytest.fixture
def fake() -> Iterator[FakeAdapterServer]:
    with FakeAdapterServer() as server:
        yield server


def talk(fake: FakeAdapterServer, talking: Callable[[Client], Awaitable[Any]], **options: Any) -> Any:
    """What a client hears from a server in this process."""

    async def run() -> Any:
        server = LyraServer(Connection(target=fake.target), **options)
        async with Client(server, client_info=Implementation(name="desk", version="1")) as client:
            return await talking(client)

    return asyncio.run(run())


def call(fake: FakeAdapterServer, tool: str, arguments: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The structured answer of one call."""
    result = talk(fake, lambda client: client.call_tool(tool, arguments), **options)
    assert not result.is_error, result.content
    content: dict[str, Any] = result.structured_content
    return content


def refusal(fake: FakeAdapterServer, tool: str, arguments: dict[str, Any]) -> str:
    """What a refused call tells the model."""
    result = talk(fake, lambda client: client.call_tool(tool, arguments))
    assert result.is_error
    text: str = result.content[0].text
    return text


def test_every_tool_says_what_it_takes_gives_and_touches(fake: FakeAdapterServer) -> None:
    tools = {tool.name: tool for tool in talk(fake, lambda client: client.list_tools()).tools}
    assert set(tools) == {
        "calibrate",
        "calibrate_status",
        "calibrate_wait",
        "calibrate_cancel",
        "calibrate_rollback",
        "calibrate_versions",
        "record_feedback",
        "classify_pairs",
    }
    for tool in tools.values():
        assert tool.description
        assert tool.output_schema
        assert tool.output_schema["type"] == "object"
        assert "ctx" not in tool.input_schema["properties"]
        for name, schema in tool.input_schema["properties"].items():
            assert "description" in schema or "$ref" in str(schema), (tool.name, name)
        hints = tool.annotations
        assert hints
        assert None not in (hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint)
    reading = {name for name, tool in tools.items() if tool.annotations.read_only_hint}
    assert reading == {"calibrate_status", "calibrate_wait", "calibrate_versions", "classify_pairs"}
    destructive = {name for name, tool in tools.items() if tool.annotations.destructive_hint}
    assert destructive == {"calibrate", "calibrate_cancel", "calibrate_rollback"}
    assert not tools["calibrate_rollback"].annotations.idempotent_hint
    assert tools["calibrate_wait"].input_schema["properties"]["seconds"]["maximum"] == 55


@pytest.mark.parametrize(
    ("options", "arguments", "expected"),
    [({}, {}, "desk"), ({"actor": "kim"}, {}, "kim"), ({"actor": "kim"}, {"actor": "ada"}, "ada")],
)
def test_who_asks(fake: FakeAdapterServer, options: dict[str, Any], arguments: dict[str, Any], expected: str) -> None:
    call(fake, "record_feedback", {"reviews": [REVIEW], **arguments}, **options)
    started = call(fake, "calibrate", {"task_id": "t", **arguments}, **options)
    call(fake, "calibrate_rollback", {"task_id": "t", "base": True, **arguments}, **options)
    asked = [one.request.actor for one in fake.received if one.rpc in ("RecordFeedback", "Train", "Rollback")]
    assert asked == [expected] * 3
    fake.script(training_script(steps=3), hold_after=2)
    started = call(fake, "calibrate", {"task_id": "u", **arguments}, **options)
    call(fake, "calibrate_cancel", {"job_id": started["job_id"], **arguments}, **options)
    assert [one.request.actor for one in fake.received if one.rpc == "Cancel"] == [expected]


def test_calibrate_asks_for_what_it_was_told(fake: FakeAdapterServer) -> None:
    call(fake, "calibrate", {"task_id": "t"})
    call(
        fake,
        "calibrate",
        {
            "task_id": "t",
            "source": "task_feedback",
            "min_samples": 7,
            "only_new": True,
            "training": {"epochs": 2},
            "activation": "manual",
        },
    )
    plain, told = (one.request for one in fake.received if one.rpc == "Train")
    assert (plain.trigger.min_samples, list(plain.feedback.task_ids), plain.HasField("feedback")) == (50, [], True)
    assert (told.trigger.min_samples, list(told.feedback.task_ids), told.feedback.only_new) == (7, ["t"], True)
    assert (told.training.epochs, told.training.HasField("seed")) == (2, False)


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("calibrate_rollback", {"task_id": "t", "verison": "v2"}, ["not called", "verison", "version"]),
        ("calibrate_rollback", {}, ["task_id or adapter", "Nothing was changed"]),
        ("calibrate_rollback", {"adapter": "a", "version": "v2", "base": True}, ["exclude"]),
        ("calibrate_rollback", {"adapter": "a", "version": "b_v2"}, ["version of b", "not of a"]),
        ("calibrate_rollback", {"task_id": "nobody"}, ["nobody", BY_REASON["TASK_NOT_FOUND"]]),
        ("calibrate", {}, ["task_id: Field required"]),
        ("calibrate", {"task_id": "t", "min_samples": 0}, ["min_samples: Input should be greater"]),
        ("calibrate", {"task_id": "t", "training": {"epoch": 1}}, ["training.epoch: Extra inputs"]),
        ("calibrate", {"task_id": "", "source": "task_feedback"}, ["needs a task_id"]),
        ("calibrate_wait", {"job_id": "j", "seconds": 56}, ["seconds: Input should be less"]),
        ("calibrate_wait", {"job_id": "none"}, ["none", BY_REASON["JOB_NOT_FOUND"]]),
        ("calibrate_status", {"task_id": "none"}, ["No job was started", "calibrate"]),
        ("calibrate_versions", {"include_history": True}, ["needs adapter"]),
        ("classify_pairs", {"pairs": []}, ["at least 1"]),
        (
            "record_feedback",
            {"reviews": [REVIEW, {**REVIEW, "correct_label": "perhaps"}]},
            ["reviews[1].correct_label", "perhaps", "SUPPORTS, REFUTES, NEUTRAL"],
        ),
        ("record_feedback", {"reviews": [{**REVIEW, "lable": "x"}]}, ["reviews[0].lable: Extra inputs"]),
    ],
)
def test_refusals_say_what_to_do(
    fake: FakeAdapterServer, tool: str, arguments: dict[str, Any], said: list[str]
) -> None:
    text = refusal(fake, tool, arguments)
    assert all(part in text for part in said), text
    assert not any(one.rpc in ("Train", "RecordFeedback") for one in fake.received)


@pytest.mark.parametrize("label", ["SUPPORTS", "supports", "LABEL_SUPPORTS", "Entailment", " supported "])
def test_labels_in_any_spelling(fake: FakeAdapterServer, label: str) -> None:
    call(fake, "record_feedback", {"reviews": [{**REVIEW, "correct_label": label, "original_label": "nei"}]})
    (review,) = fake.reviews.values()
    assert (review.sample.correct_label, review.sample.original_label) == (1, 3)


def test_not_due_says_what_is_missing(fake: FakeAdapterServer) -> None:
    fake.fail_next(
        "Train",
        grpc.StatusCode.FAILED_PRECONDITION,
        "not due",
        reason="NOT_ENOUGH_SAMPLES",
        metadata={"have": "32", "need": "50"},
    )
    answer = call(fake, "calibrate", {"task_id": "t"})
    assert (answer["started"], answer["job_id"]) == (False, "")
    assert (answer["missing"]["have_samples"], answer["missing"]["need_samples"]) == (32, 50)
    assert "32 of 50" in answer["missing"]["explanation"]


def test_a_service_that_is_away(fake: FakeAdapterServer) -> None:
    fake.fail_next("Status", grpc.StatusCode.UNAVAILABLE, "gone", times=9)
    text = refusal(fake, "calibrate_status", {})
    assert fake.target in text
    assert "lyra-adapters serve" in text


def test_after_a_rollback_no_error_looks_as_if_nothing_changed(fake: FakeAdapterServer) -> None:
    call(fake, "calibrate", {"task_id": "t"})
    fake.fail_next("List", grpc.StatusCode.INTERNAL, "broken", times=9)
    answer = call(fake, "calibrate_rollback", {"task_id": "t", "version": "base"})
    assert answer["in_force"] == "base"
    assert "not known" in answer["next"]


def test_wait_ends_in_time_and_says_so(fake: FakeAdapterServer) -> None:
    script = training_script(steps=4)
    job = fake.script(script, hold_after=3)
    job_id = call(fake, "calibrate", {"task_id": "t"})["job_id"]
    seen: list[float] = []

    async def wait(client: Client) -> Any:
        async def progress(value: float, total: float | None, message: str | None) -> None:
            seen.append(value)

        first = await client.call_tool("calibrate_wait", {"job_id": job_id, "seconds": 0.3}, progress_callback=progress)
        job.release()
        return first, await client.call_tool("calibrate_wait", {"job_id": job_id}, progress_callback=progress)

    first, last = talk(fake, wait)
    assert first.structured_content["finished"] is False
    assert "calibrate_wait" in first.structured_content["next"]
    assert last.structured_content["state"] == "SUCCEEDED"
    assert seen[-1] == 100


def test_progress_only_grows() -> None:
    told: list[tuple[float, float]] = []

    class Context:
        async def report_progress(self, value: float, total: float, message: str) -> None:
            assert message
            told.append((value, total))

    async def run() -> None:
        climb = Climb(Context())  # type: ignore[arg-type]
        await climb.job(models.Job(state=models.JobState.QUEUED, queue_position=2))
        going: list[models.Event] = [models.Queued(position=1), models.Started()]
        going += [models.Progress(step=step, total_steps=9, fraction_done=step / 9) for step in range(1, 9)]
        # A job that starts over, a stream that repeats itself, long silence at the very end.
        going += [models.Resumed(attempt=2, step=0), models.Started(), models.Progress(fraction_done=0.1)]
        going += [models.Evaluation(metrics=models.Metrics()), models.Published(version=models.AdapterVersion())]
        going += [models.Heartbeat()] * 500
        going += [models.Succeeded(), models.Succeeded()]
        for event in going:
            await climb.event(event)

    asyncio.run(run())
    values = [value for value, _ in told]
    assert all(before < after for before, after in itertools.pairwise(values))
    assert (values[0], values[-1], values.count(100)) == (0, 100, 1)
    assert {total for _, total in told} == {100}


@pytest.mark.parametrize(
    ("listen", "names", "refused"),
    [
        ("127.0.0.1:0", [], False),
        ("[::1]:8000", [], False),
        ("localhost:8000", [], False),
        ("0.0.0.0:8000", [], True),
        ("192.0.2.1:8000", [], True),
        ("0.0.0.0:8000", ["lyra.example"], False),
        ("8000", [], True),
        ("127.0.0.1:x", [], True),
        ("127.0.0.1:70000", [], True),
    ],
)
def test_only_loopback_unless_named(listen: str, names: list[str], refused: bool) -> None:
    if refused:
        with pytest.raises(ValueError, match="--http"):
            Place.parse(listen, names)
    else:
        security = Place.parse(listen, names).security()
        assert security.enable_dns_rebinding_protection
        assert ("localhost:*" in security.allowed_hosts) == (not names)


@pytest.mark.parametrize("missing", ["mcp", "uvicorn"])
def test_a_missing_extra_is_named(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from lyra_adapters.mcp import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "pip install 'lyra-adapters[mcp]'" in done.stderr


def test_it_needs_no_torch() -> None:
    code = "import sys, lyra_adapters.mcp.command; print('torch' in sys.modules, 'lyra_adapters_server' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_the_log_quotes_no_exception() -> None:
    try:
        try:
            raise ValueError("what the user wrote")
        except ValueError as inner:
            raise RuntimeError("it again") from inner
    except RuntimeError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "broke", (), sys.exc_info())
    text = Wordless("%(message)s").format(record)
    assert "RuntimeError" in text
    assert "ValueError" in text
    assert "wrote" not in text
    assert "again" not in text
