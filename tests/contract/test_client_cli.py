"""The command line against the fake server: exit codes, JSON, plain output, Ctrl-C."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from lyra_adapters.cli import main
from lyra_adapters.testing import FakeAdapterServer, cancelled_script, failed_script, training_script
from lyra_adapters.v1 import adapter_service_pb2 as pb

ROWS = [
    {"premise": "眠りは記憶を助ける。", "hypothesis": "Sleep helps memory.", "label": "supports"},
    {"premise": "p", "hypothesis": "h", "correct_label": "REFUTES", "original_label": "NEUTRAL", "group": "doc-1"},
]
ENV = {k: v for k, v in os.environ.items() if not k.startswith("LYRA_ADAPTERS_")}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAdapterServer]:
    with FakeAdapterServer() as server:
        monkeypatch.setenv("LYRA_ADAPTERS_SERVER", server.target)
        yield server


@pytest.fixture
def rows(tmp_path: Path) -> str:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), encoding="utf-8")
    return str(file)


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "lyra_adapters.cli", *args]


def test_train_shows_a_line_an_event_and_the_verdict(
    fake: FakeAdapterServer, rows: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.script(training_script(steps=3), break_after=[0, 4])
    assert main(["train", rows]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert [line.split()[1] for line in lines[:11]] == [event.kind for event in next(iter(fake.jobs.values())).events]
    assert re.search(r"^accuracy +0\.4000 +0\.8000 +\+0\.4000$", out, re.MULTILINE)
    assert "Verdict: BETTER" in out
    assert "The new version is in force." in out
    assert "\x1b" not in out


def test_every_option_of_train_arrives(fake: FakeAdapterServer, rows: str) -> None:
    options = (
        "--adapter academic --task-id t --actor ana --domain sleep --base-model demo --rank 4 --alpha 8 --dropout 0.1 "
        "--target q_proj --target v_proj --upper-half --epochs 2 --learning-rate 1e-3 --batch-size 4 --max-length 128 "
        "--seed 7 --validation-fraction 0.25 --patience 2 --weight-decay 0.02 --warmup-ratio 0.2 --max-grad-norm 2 "
        "--label-smoothing 0.125 --evaluations-per-epoch 3 --inner-fraction 0.2 --folds 4 --candidate 6:1e-3 "
        "--candidate :5e-4 --balance-labels --no-replay-general --balance-reviews --distillation 0.5 --min-samples 1 "
        "--min-error-rate 0.5 --force --activation manual --continue-from base_nli_v1 --keep-newest "
        "--request-id 11111111-1111-4111-8111-111111111111"
    )
    assert main(["train", rows, *options.split()]) == 0
    (request,) = fake.requests("Train")
    samples = list(request.samples)
    assert [s.correct_label for s in samples] == [pb.LABEL_SUPPORTS, pb.LABEL_REFUTES]
    assert samples[0].premise == ROWS[0]["premise"]
    assert samples[1].group == "doc-1"
    set_fields = {field.name for field, _ in request.ListFields()}
    assert set_fields == {field.name for field in pb.TrainRequest.DESCRIPTOR.fields} - {"feedback"}
    for part in ("lora", "training", "trigger"):
        message = getattr(request, part)
        assert len(message.ListFields()) == len(message.DESCRIPTOR.fields), part
    assert request.training.candidates[0] == pb.Candidate(epochs=6, learning_rate=1e-3)
    assert request.training.candidates[1] == pb.Candidate(learning_rate=5e-4)
    assert request.conflicts == pb.CONFLICT_POLICY_KEEP_NEWEST
    assert request.activation == pb.ACTIVATION_MANUAL
    assert request.actor == "ana"


def test_feedback_instead_of_a_file(fake: FakeAdapterServer, rows: str) -> None:
    assert main(["train", "--feedback-task", "a", "--only-new"]) == 0
    assert fake.requests("Train")[0].feedback == pb.FeedbackSource(task_ids=["a"], only_new=True)
    assert main(["train"]) == 2
    assert main(["train", rows, "--feedback"]) == 2


def on_a_terminal(*args: str) -> tuple[int, str]:
    """Runs a command on a terminal of 80 columns; returns its status and what the terminal got, without codes."""
    here, there = pty.openpty()
    env = {**ENV, "LYRA_ADAPTERS_SERVER": os.environ["LYRA_ADAPTERS_SERVER"], "COLUMNS": "80", "TERM": "xterm"}
    process = subprocess.Popen(command(*args), stdin=there, stdout=there, stderr=there, env=env)
    os.close(there)
    got = b""
    # Linux says EIO, others an empty read, when the last writer has gone.
    with contextlib.suppress(OSError):
        while part := os.read(here, 65536):
            got += part
    os.close(here)
    return process.wait(timeout=20), re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", got.decode())


def test_a_terminal_gets_a_bar_with_figures(fake: FakeAdapterServer, rows: str) -> None:
    fake.script(training_script(steps=3), pause=0.3)
    status, shown = on_a_terminal("train", rows)
    assert status == 0, shown
    assert re.search(r"Training \S+ 2/3  ETA 0:00:01", shown), shown
    assert "loss 0.800  validation accuracy 0.400, loss 1.200  1,500 tokens/s" in shown
    assert re.search(r"│ accuracy +│ 0\.4000 +│ 0\.8000 │ \+0\.4000 │", shown)


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_json_is_an_event_a_line_and_an_object_otherwise(
    fake: FakeAdapterServer, rows: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", rows, "--json"]) == 0
    events = json_lines(capsys.readouterr().out)
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["kind"] == "succeeded"
    assert events[-1]["succeeded"]["version"] == "user_feedback_v1"
    job = events[0]["job_id"]
    assert main(["watch", job, "--after", "3", "--json"]) == 0
    assert json_lines(capsys.readouterr().out) == events[3:]
    for args, key in (
        (["status"], "base_models"),
        (["status", job], "state"),
        (["list"], "versions"),
        (["list", "user_feedback", "--history"], "history"),
        (["jobs"], "jobs"),
        (["rollback", "user_feedback"], "change"),
        (["activate", "user_feedback", "v1"], "change"),
        (["classify", "--premise", "p", "--hypothesis", "h"], "label"),
        (["feedback", "add", rows], "stored"),
        (["feedback", "import", rows], "stored"),
        (["feedback", "stats"], "reviews"),
    ):
        assert main([*args, "--json"]) == 0, args
        (found,) = json_lines(capsys.readouterr().out)
        assert key in found, args


def test_commands_for_people(
    fake: FakeAdapterServer, rows: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list"]) == 0
    assert "No versions." in capsys.readouterr().out
    main(["train", rows, "--actor", "ana"])
    fake.files["user_feedback_v1"] = {"adapter_config.json": b"{}"}
    capsys.readouterr()
    for args, words in (
        (["status"], ["user_feedback_v1", "demo", "READY"]),
        (["list", "user_feedback", "--history"], ["ACTIVE", "0.400 -> 0.800", "PUBLISHED"]),
        (["jobs"], ["SUCCEEDED", "ana"]),
        (["status", next(iter(fake.jobs))], ["SUCCEEDED", "user_feedback_v1", "BETTER"]),
        (["classify", rows], ["SUPPORTS", "0.700", "Sleep helps memory."]),
        (["feedback", "add", rows], ["2 stored, 0 revised, 0 already there"]),
        (["feedback", "stats"], ["2 reviews of 2 pairs"]),
        (["feedback", "export"], ['"hypothesis": "Sleep helps memory."']),
        (["download", "user_feedback", "--to", str(tmp_path / "out"), "--version", "v1"], ["adapter_config.json"]),
        (["rollback", "--to", "base", "--reason", "worse"], ["base is in force (was user_feedback_v1)"]),
        (["activate", "user_feedback", "v1"], ["user_feedback_v1 is in force (was base)"]),
    ):
        assert main(args) == 0, args
        out = capsys.readouterr().out
        assert all(word in out for word in words), out
        assert "\x1b" not in out
    assert (tmp_path / "out" / "adapter_config.json").read_bytes() == b"{}"


@pytest.mark.parametrize(
    ("code", "reason", "exit_code"),
    [
        ("INVALID_ARGUMENT", "INVALID_FIELD", 3),
        ("ALREADY_EXISTS", "REQUEST_ID_REUSED", 3),
        ("NOT_FOUND", "VERSION_NOT_FOUND", 4),
        ("FAILED_PRECONDITION", "NOT_ENOUGH_SAMPLES", 5),
        ("ABORTED", "ACTIVE_CHANGED", 5),
        ("PERMISSION_DENIED", "BASE_MODEL_NOT_ALLOWED", 6),
        ("UNAUTHENTICATED", "BAD_TOKEN", 6),
        ("RESOURCE_EXHAUSTED", "QUEUE_FULL", 7),
        ("INTERNAL", "INTERNAL_FAULT", 1),
        ("UNIMPLEMENTED", "", 1),
    ],
)
def test_exit_codes_of_refusals(
    fake: FakeAdapterServer, rows: str, code: str, reason: str, exit_code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.fail_next("Train", grpc.StatusCode[code], "What happened.", times=2, reason=reason)
    assert main(["train", rows]) == exit_code
    error = capsys.readouterr().err
    assert error.startswith("Error: What happened.\n")
    # What happened, what it means, what to do.
    assert len(error.splitlines()) == 3
    assert "Traceback" not in error
    assert main(["train", rows, "--json"]) == exit_code
    (problem,) = json_lines(capsys.readouterr().err)
    assert (problem["code"], problem["reason"]) == (code, reason)


def test_exit_codes_of_jobs(fake: FakeAdapterServer, rows: str) -> None:
    fake.script(failed_script())
    assert main(["train", rows]) == 8
    fake.script(cancelled_script("ana"))
    assert main(["train", rows]) == 9
    fake.script(training_script(outcome="UNDECIDED"))
    assert main(["train", rows]) == 0
    fake.script(training_script(version="v2", outcome="UNDECIDED"))
    assert main(["train", rows, "--require-active"]) == 10
    assert main(["watch", next(iter(fake.jobs))]) == 8
    held = fake.add_job(hold_after=2)
    assert main(["cancel", held.job_id]) == 0
    assert main(["cancel", held.job_id]) == 5
    assert main(["watch", "nothing"]) == 4


def test_usage(rows: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == 2
    assert main(["train", rows, "--rank", "many"]) == 2
    assert main(["train", rows, "--activation", "sometimes"]) == 2
    assert main(["list", "--history"]) == 2
    assert main(["classify", "--premise", "p"]) == 2
    assert main(["status", "--server", "gpu:1", "--token", "x"]) == 2
    assert "unencrypted" in capsys.readouterr().err
    assert main(["train", str(tmp_path / "missing.jsonl")]) == 2
    assert "No such file" in capsys.readouterr().err
    assert main(["--version"]) == 0
    assert main(["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "8 the job failed" in shown


def test_a_server_that_is_not_there(rows: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--server", "127.0.0.1:1"]) == 7
    assert "No answer from 127.0.0.1:1" in capsys.readouterr().err


def test_lines_that_are_no_rows(fake: FakeAdapterServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.jsonl"
    good = json.dumps(ROWS[0]).encode()
    for bad, problem in (
        (b"{", "line 3: is not JSON"),
        (b"[]", "line 3: must be a JSON object"),
        (b"\xff\xfe", "line 3: is not UTF-8"),
        (b'{"premise": "p", "hypothesis": "h", "label": "perhaps"}', "line 3: label is 'perhaps'"),
        (b'{"premise": "p", "label": "neutral"}', "line 3: hypothesis is missing"),
    ):
        file.write_bytes(b"\xef\xbb\xbf" + good + b"\r\n\n" + bad + b"\n")
        assert main(["train", str(file)]) == 3
        assert problem in capsys.readouterr().err
    file.write_bytes(b"\n")
    assert main(["train", str(file)]) == 3
    assert not fake.received


def test_unknown_keys_are_named_once_and_server_errors_get_lines(
    fake: FakeAdapterServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(["", *(json.dumps({**row, "colour": 1}) for row in ROWS)]), encoding="utf-8")
    fake.fail_next(
        "Train", grpc.StatusCode.INVALID_ARGUMENT, "Bad.", reason="X", violations={"samples[1].premise": "too long"}
    )
    assert main(["train", str(file)]) == 3
    error = capsys.readouterr().err
    assert error.count("colour (2)") == 1
    assert "samples[1] (line 3).premise: too long" in error


def test_detach_prints_the_job_and_leaves(
    fake: FakeAdapterServer, rows: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job = fake.script(hold_after=2)
    assert main(["train", rows, "--detach"]) == 0
    assert capsys.readouterr().out.strip() == job.job_id
    assert not fake.requests("Cancel")


def test_ctrl_c_detaches_and_says_how_to_go_on(fake: FakeAdapterServer, rows: str) -> None:
    job = fake.script(hold_after=4)
    process = subprocess.Popen(
        command("train", rows, "--server", fake.target),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENV,
    )
    assert process.stdout is not None
    seen = [process.stdout.readline() for _ in range(4)]
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 130, error
    assert seen[-1].split()[:2] == ["4", "progress"]
    assert f"lyra-adapters watch {job.job_id} --after 4 --server {fake.target}" in error
    assert f"lyra-adapters cancel {job.job_id} --server {fake.target}" in error
    assert "Traceback" not in error
    assert not fake.requests("Cancel")


def test_ctrl_c_before_the_job_is_known_says_how_to_find_it(rows: str) -> None:
    process = subprocess.Popen(
        command("train", rows, "--server", "127.0.0.1:1"), stderr=subprocess.PIPE, text=True, env=ENV
    )
    assert process.stderr is not None
    assert "Waiting for the server" in process.stderr.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 130, error
    assert "--request-id" in error
    assert "Traceback" not in error


def test_a_reader_that_has_enough_is_no_error(fake: FakeAdapterServer, rows: str) -> None:
    fake.script(training_script(steps=2000))
    shell = f"{' '.join(command('train', rows, '--json'))} | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", shell],
        capture_output=True,
        text=True,
        timeout=60,
        env={**ENV, "LYRA_ADAPTERS_SERVER": fake.target},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["kind"] == "queued"


def test_serve_passes_its_arguments_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    given: list[list[str]] = []
    module = types.ModuleType("lyra_adapters_server.service.main")
    module.main = lambda argv: given.append(argv) or 7  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert main(["serve", "--help"]) == 7
    assert main(["serve", "--base-model", "demo", "--", "-x"]) == 7
    assert given == [["--help"], ["--base-model", "demo", "--", "-x"]]
