"""Corrections in, an adapter in force out: a real server process, a real socket, the real client."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lyra_adapters.v1 import adapter_service_pb2 as pb
from server_process import ServerProcess
from tiny_base import rows
from train_requests import kinds, train_request


@pytest.fixture(scope="module")
def trained(server: ServerProcess) -> list[pb.TrainEvent]:
    """The events of a training of `sleep`."""
    request = train_request("sleep", actor="ada", task_id="task-1", domain="sleep research")
    return list(server.stub().Train(request))


def test_events_are_gapless_and_close_in_order(trained: list[pb.TrainEvent]) -> None:
    assert [event.sequence for event in trained] == list(range(1, len(trained) + 1))
    assert len({event.job_id for event in trained}) == 1
    assert kinds(trained)[:3] == ["queued", "started", "evaluation"]
    assert kinds(trained)[-3:] == ["published", "verdict", "succeeded"]
    stages = [e.evaluation.stage for e in trained if e.WhichOneof("event") == "evaluation"]
    assert stages[0] == pb.EVALUATION_STAGE_BEFORE
    assert stages[-1] == pb.EVALUATION_STAGE_AFTER
    assert pb.EVALUATION_STAGE_VALIDATION in stages


def test_watch_gives_the_same_events_from_any_point(server: ServerProcess, trained: list[pb.TrainEvent]) -> None:
    stub = server.stub()
    for after in (0, 3, len(trained) - 1, len(trained)):
        again = list(stub.Watch(pb.WatchRequest(job_id=trained[0].job_id, after_sequence=after)))
        assert again == trained[after:]


def test_version_on_disk_is_whole_and_in_force(server: ServerProcess, trained: list[pb.TrainEvent]) -> None:
    version = trained[-3].published.version
    home = server.home
    directory = Path(version.path)
    assert directory == home / "sleep_v1"
    files = {file.path for file in version.files}
    assert files == {
        *("adapter_model.safetensors", "adapter_config.json", "prompt.json"),
        *("metrics.json", "training.json", "README.md"),
    }
    assert {path.name for path in directory.iterdir()} == files
    assert (home / "sleep_v1.safetensors").samefile(directory / "adapter_model.safetensors")
    assert (directory / "adapter_model.safetensors").stat().st_mode & 0o777 == 0o600
    training = json.loads((directory / "training.json").read_text())
    assert len(training["data"]["training_ids"]) == version.training_samples
    assert len(training["data"]["held_out_ids"]) == version.validation_samples
    assert "premise" not in (directory / "training.json").read_text()


def test_pointer_follows_the_verdict_and_rollback_takes_it_back(server: ServerProcess) -> None:
    stub = server.stub()
    always = train_request("pointer", activation=pb.ACTIVATION_ALWAYS)
    for number in (1, 2, 3):
        always.training.seed = number
        end = list(stub.Train(always))[-1].succeeded
        assert (end.version, end.activated) == (f"pointer_v{number}", True)
    home = server.home

    def in_force() -> tuple[str, str, int]:
        link = home / "pointer"
        said = json.loads((home / "pointer.json").read_text())
        target = str(link.readlink()) if link.is_symlink() else "base"
        return target, said["active"], said["pointer_revision"]

    assert in_force() == ("pointer_v3", "pointer_v3", 3)
    for revision, expected in enumerate(("pointer_v2", "pointer_v1", "base"), start=4):
        answer = stub.Rollback(pb.RollbackRequest(adapter="pointer", actor="ada", reason="worse on my papers"))
        assert (answer.change.active, answer.changed) == (expected, True)
        assert in_force() == (expected, expected, revision)
    history = stub.List(pb.ListRequest(adapter="pointer", include_history=True)).history
    assert [change.pointer_revision for change in history] == [6, 5, 4, 3, 2, 1]
    assert history[0].reason == "worse on my papers"
    states = [version.state for version in stub.List(pb.ListRequest(adapter="pointer")).versions]
    assert states == [pb.VERSION_STATE_RETIRED] * 3


def test_client_trains_and_lists(server: ServerProcess) -> None:
    events = list(
        server.client.train(samples=rows(60), adapter="through_client", training={"epochs": 1}, activation="always")
    )
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    listed = list(server.client.versions(adapter="through_client"))
    assert [version.name for version in listed] == ["through_client_v1"]
    status = server.client.status()
    assert {"through_client"} <= {adapter.adapter for adapter in status.adapters}
