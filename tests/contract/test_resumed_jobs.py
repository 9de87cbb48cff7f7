"""A job goes on by itself after its trainer or its server died, and comes to the bytes of one that was left alone."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lyra_adapters.v1 import adapter_service_pb2 as pb
from server_process import ServerProcess
from test_job_life import begin, watch
from tiny_encoders import make_tiny_encoder
from train_requests import kinds, train_request

StartServer = Callable[..., ServerProcess]

FLAGS = ("--checkpoint-steps", "5", "--lease-s", "1", "--progress-interval-s", "0.05", "--threads", "1")
# Long enough to be interrupted several times.
LONG = {"count": 90, "epochs": 16}


def request(adapter: str, **fields: object) -> pb.TrainRequest:
    """A training with dropout that restores its best step at the end, and may stop before the last."""
    wanted = train_request(adapter, **LONG, **fields)
    wanted.lora.dropout = 0.2
    wanted.training.patience = 8
    wanted.training.learning_rate = 0.002
    return wanted


def weights(server: ServerProcess, name: str) -> bytes:
    return (server.home / name / "adapter_model.safetensors").read_bytes()


def wait_for_step(server: ServerProcess, job_id: str, step: int) -> bool:
    """Whether the job got there before it ended."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        job = server.stub().Status(pb.StatusRequest(job_id=job_id)).job
        if job.state not in (pb.JOB_STATE_QUEUED, pb.JOB_STATE_RUNNING):
            return False
        if job.progress.step >= step:
            return True
        time.sleep(0.01)
    raise AssertionError(f"job {job_id} does not reach step {step}")


def wait_for_nothing_left(server: ServerProcess) -> None:
    """Waits until the server has cleared up after its jobs, which it does after their last event."""
    deadline = time.monotonic() + 10
    while list((server.home / ".staging").iterdir()):
        assert time.monotonic() < deadline, list((server.home / ".staging").rglob("*"))
        time.sleep(0.05)


def check_events(events: list[pb.TrainEvent], resumes: int) -> list[pb.TrainEvent]:
    """Gapless and in order; every resume goes on from a checkpoint that was told of, or an earlier one."""
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    resumed = [event for event in events if event.WhichOneof("event") == "resumed"]
    assert len(resumed) == resumes
    steps = [event.resumed.step for event in resumed]
    assert steps == sorted(steps)
    attempts = [event.resumed.attempt for event in resumed]
    assert attempts == sorted(set(attempts))
    assert all(event.resumed.reason for event in resumed)
    return resumed


# tests/crash compares the bytes of a causal job that was killed, in `make test` too.
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "names"), [("causal", ("parent", "child")), ("encoder", ("parent", "child"))])
def test_bytes_are_those_of_a_job_that_was_left_alone(
    start_server: StartServer, tmp_path: Path, tiny_base: Path, kind: str, names: tuple[str, ...]
) -> None:
    """Worker and server are killed at random moments; the second job continues from the first one's version."""
    base = tiny_base if kind == "causal" else make_tiny_encoder(tmp_path / "encoder", "bert", ())
    alone = start_server(*FLAGS, home=tmp_path / "alone", base=f"tiny={base}").wait_ready()
    for name in names:
        wanted = request(name, continue_from="parent_v1" if name == "child" else "", activation="ACTIVATION_ALWAYS")
        assert kinds(list(alone.stub().Train(wanted)))[-1] == "succeeded"
    alone.stop()

    flags = (*FLAGS, "--max-attempts", "100")
    chance = random.Random(11 if kind == "causal" else 12)
    server = start_server(*flags, home=tmp_path / "killed", base=f"tiny={base}").wait_ready()
    for name in names:
        wanted = request(name, continue_from="parent_v1" if name == "child" else "", activation="ACTIVATION_ALWAYS")
        job_id, kills = begin(server, wanted), 0
        for who in ("worker", "server") if name == "parent" else ("worker",):
            if not wait_for_step(server, job_id, chance.randrange(20, 60) * (kills + 1)):
                break
            time.sleep(chance.random() * 0.05)
            kills += 1
            if who == "worker":
                os.kill(server.worker_pid(), signal.SIGKILL)
            else:
                server.stop(signal.SIGKILL)
                server = start_server(*flags, home=tmp_path / "killed", base=f"tiny={base}")
        events = watch(server, job_id)
        assert kinds(events)[-1] == "succeeded"
        assert kills
        resumed = check_events(events, kills)
        assert resumed[0].resumed.step >= 5
        assert "SIGKILL" in resumed[0].resumed.reason
        assert (
            weights(server, f"{name}_v1") == (tmp_path / "alone" / f"{name}_v1/adapter_model.safetensors").read_bytes()
        )
        wait_for_nothing_left(server)


# tests/unit/trainer/test_checkpoint.py tears them without processes.
@pytest.mark.slow
def test_a_torn_checkpoint_is_passed_over_and_the_reader_is_told(start_server: StartServer) -> None:
    server = start_server(*FLAGS).wait_ready()
    job_id = begin(server, request("torn"))
    assert wait_for_step(server, job_id, 30)
    server.stop()
    found = sorted((server.home / ".staging" / job_id / "checkpoints").iterdir())
    assert len(found) == 2
    torn = found[-1] / "state.safetensors"
    torn.write_bytes(torn.read_bytes()[:1000])
    again = start_server(*FLAGS)
    events = watch(again, job_id)
    (resumed,) = check_events(events, 1)
    assert found[0].name == f"step-{resumed.resumed.step:08d}"
    assert resumed.resumed.reason == "the server was stopped"
    after = events[resumed.sequence]
    assert after.warning.reason == "CHECKPOINT_UNUSABLE"
    assert kinds(events)[-1] == "succeeded"


# tests/unit/trainer/test_pieces.py holds it without processes.
@pytest.mark.slow
def test_the_job_keeps_its_plan_under_other_settings(start_server: StartServer) -> None:
    server = start_server(*FLAGS, "--dtype", "float32").wait_ready()
    job_id = begin(server, request("planned"))
    assert wait_for_step(server, job_id, 10)
    server.stop()
    again = start_server("--threads", "2", "--dtype", "bfloat16").wait_ready()
    second = begin(again, train_request("other"))
    events = watch(again, job_id)
    assert kinds(events)[-1] == "succeeded"
    (resumed,) = check_events(events, 1)
    changed = events[resumed.sequence].warning
    # Threads are kept; what the base's weights are in memory is not the job's to choose.
    assert changed.reason == "PLAN_CHANGED"
    assert "dtype bfloat16, was float32" in changed.message
    assert "threads" not in changed.message
    assert kinds(watch(again, second))[-1] == "succeeded"
    plans = [json.loads((again.home / f"{name}_v1/training.json").read_text())["plan"] for name in ("planned", "other")]
    assert [plan["threads"] for plan in plans] == [1, 2]


def test_a_trainer_that_hangs_is_killed_and_the_job_goes_on(start_server: StartServer) -> None:
    server = start_server(*FLAGS, "--hang-s", "2", "--max-attempts", "2").wait_ready()
    job_id = begin(server, request("stuck"))
    assert wait_for_step(server, job_id, 10)
    hung = server.worker_pid()
    os.kill(hung, signal.SIGSTOP)
    events = watch(server, job_id)
    (resumed,) = check_events(events, 1)
    assert "no sign of life" in resumed.resumed.reason
    assert resumed.resumed.step >= 5
    assert kinds(events)[-1] == "succeeded"
    assert server.logged("worker_hangs")[0]["pid"] == hung
    assert server.worker_pid() != hung
    with pytest.raises(ProcessLookupError):
        os.kill(hung, 0)


@pytest.mark.slow
def test_a_trainer_without_work_is_not_taken_for_one_that_hangs(start_server: StartServer) -> None:
    server = start_server("--hang-s", "1").wait_ready()
    time.sleep(3)
    assert not server.logged("worker_hangs")
    # One that stopped while it had nothing to do is noticed by the next one who needs it.
    os.kill(server.worker_pid(), signal.SIGSTOP)
    time.sleep(2.5)
    assert not server.logged("worker_hangs")
    assert kinds(list(server.stub().Train(train_request("next"))))[-1] == "succeeded"
    assert len(server.logged("worker_hangs")) == 1


def test_a_job_that_is_given_up_says_how_it_ended_last(start_server: StartServer) -> None:
    server = start_server(*FLAGS, "--max-attempts", "1").wait_ready()
    job_id = begin(server, request("poison"))
    assert wait_for_step(server, job_id, 10)
    os.kill(server.worker_pid(), signal.SIGKILL)
    last = watch(server, job_id)[-1].failed
    assert last.reason == "TOO_MANY_ATTEMPTS"
    assert "once" in last.message
    assert "SIGKILL" in last.message
    assert "memory" in last.message
    wait_for_nothing_left(server)


@pytest.mark.slow
def test_cancelling_a_job_that_waits_to_go_on_leaves_nothing(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(*FLAGS).wait_ready()
    job_id = begin(server, request("dropped"))
    assert wait_for_step(server, job_id, 10)
    server.stop()
    assert (server.home / ".staging" / job_id / "checkpoints").is_dir()
    again = start_server()
    again.stub().Cancel(pb.CancelRequest(job_id=job_id))
    assert kinds(watch(again, job_id))[-1] == "cancelled"
    wait_for_nothing_left(again)
