"""A real server restarts in the middle of train(): the client gives each event once, in order, and the version."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from lyra_adapters import AdapterClient, AdapterVersion, AsyncAdapterClient, ReconnectPolicy
from lyra_adapters.models.events import TrainEvent
from server_process import ServerProcess
from test_job_life import watch
from tiny_base import rows

StartServer = Callable[..., ServerProcess]

POLICY = ReconnectPolicy(initial=0.05, maximum=0.5)
TRAINING = {"epochs": 16, "learning_rate": 0.002, "patience": 0}
FLAGS = ("--lease-s", "1", "--checkpoint-steps", "10")

Note = Callable[[TrainEvent], None]


def read_sync(address: str, note: Note) -> AdapterVersion:
    with AdapterClient(address, reconnect=POLICY) as client:
        stream = client.train(rows(90), adapter="ridden", training=TRAINING, activation="always")
        for event in stream:
            note(event)
        return stream.result()


def read_async(address: str, note: Note) -> AdapterVersion:
    async def read() -> AdapterVersion:
        async with AsyncAdapterClient(address, reconnect=POLICY) as client:
            stream = client.train(rows(90), adapter="ridden", training=TRAINING, activation="always")
            async for event in stream:
                note(event)
            return await stream.result()

    return asyncio.run(read())


@pytest.mark.parametrize(
    ("read", "how"),
    [
        (read_sync, signal.SIGKILL),
        pytest.param(read_async, signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(read_sync, signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(read_async, signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_train_goes_on_over_a_restart(start_server: StartServer, read: Any, how: signal.Signals) -> None:
    server = start_server(*FLAGS).wait_ready()
    events: list[TrainEvent] = []
    far = threading.Event()
    found: list[AdapterVersion | BaseException] = []

    def note(event: TrainEvent) -> None:
        events.append(event)
        if event.kind == "checkpointed":
            far.set()

    def run() -> None:
        try:
            found.append(read(server.address, note))
        except BaseException as error:
            found.append(error)

    reader = threading.Thread(target=run)
    reader.start()
    assert far.wait(30)
    server.stop(how)
    again = start_server(*FLAGS, port=server.port)
    reader.join(90)
    assert not reader.is_alive()
    (version,) = found
    assert isinstance(version, AdapterVersion), version
    assert version.name == "ridden_v1"
    assert version.state == "ACTIVE"
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.kind for event in events].count("resumed") == 1
    # The same that anybody else is told.
    stored = watch(again, events[0].job_id)
    assert [event.kind for event in events] == [event.WhichOneof("event") for event in stored]
