"""WatchAdapter: every change of what is in force, gapless, from any revision, the same for every reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from lyra_adapters.v1 import adapter_service_pb2 as pb
from published import Registry
from server_process import ServerProcess


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "home")
    for _ in range(3):
        registry.publish()
    return registry


@pytest.fixture
def server(registry: Registry, start_server: Callable[..., ServerProcess]) -> ServerProcess:
    return start_server("--heartbeat-s", "0.3")


def watch(server: ServerProcess, **request: Any) -> Any:
    return server.stub().WatchAdapter(pb.WatchAdapterRequest(**{"adapter": "user_feedback", **request}), timeout=20)


def changes(stream: Iterator[pb.PointerChange], count: int) -> list[pb.PointerChange]:
    """So many changes, without heartbeats."""
    found: list[pb.PointerChange] = []
    while len(found) < count:
        message = next(stream)
        if not message.heartbeat:
            found.append(message)
    return found


def told(found: list[pb.PointerChange]) -> list[tuple[int, str, str]]:
    return [(change.pointer_revision, change.previous, change.active) for change in found]


def test_every_change_once_live_and_the_same_for_every_reader(server: ServerProcess, registry: Registry) -> None:
    early = watch(server)
    server.client.activate("user_feedback", "v1")
    server.client.activate("user_feedback", "v2")
    # Another server on the same registry.
    registry.activate("v3")
    registry.rollback()
    server.client.rollback("user_feedback", to_version="base")
    seen = changes(early, 5)
    assert told(seen) == [
        (1, "base", "user_feedback_v1"),
        (2, "user_feedback_v1", "user_feedback_v2"),
        (3, "user_feedback_v2", "user_feedback_v3"),
        (4, "user_feedback_v3", "user_feedback_v2"),
        (5, "user_feedback_v2", "base"),
    ]
    for after in range(5):
        assert changes(watch(server, after_revision=after), 5 - after) == seen[after:]


def test_a_quiet_stream_gets_heartbeats_that_are_no_change(server: ServerProcess, registry: Registry) -> None:
    revision = registry.activate("v1")
    stream = watch(server, after_revision=revision)
    for _ in range(2):
        message = next(stream)
        assert message.heartbeat
        assert (message.pointer_revision, message.adapter, message.active) == (0, "user_feedback", "")
        assert message.time.seconds
    registry.activate("v2")
    assert told(changes(stream, 1)) == [(2, "user_feedback_v1", "user_feedback_v2")]


def test_an_adapter_that_is_not_there_yet_can_be_waited_for(server: ServerProcess, registry: Registry) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        next(watch(server, adapter="later"))
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
    stream = watch(server, adapter="later", wait_for_adapter=True)
    assert next(stream).heartbeat
    registry.activate(registry.publish("later"), "later")
    assert told(changes(stream, 1)) == [(1, "base", "later_v1")]


@pytest.mark.parametrize(
    ("request_", "says"),
    [({"adapter": "No"}, "adapter"), ({"after_revision": -1}, "from 0 to 0"), ({"after_revision": 1}, "from 0 to 0")],
)
def test_what_is_refused(server: ServerProcess, request_: dict[str, Any], says: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        next(watch(server, **request_))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert says in refused.value.details()


def test_many_quiet_readers_leave_nothing_behind(server: ServerProcess, registry: Registry) -> None:
    streams = [watch(server) for _ in range(20)]
    registry.activate("v1")
    assert [told(changes(stream, 1)) for stream in streams] == [[(1, "base", "user_feedback_v1")]] * 20
    for stream in streams:
        stream.cancel()
    server.wait_for_log("rpc", 20)
    assert {line["code"] for line in server.logged("rpc")} == {"CANCELLED"}
