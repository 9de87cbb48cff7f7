"""The worker's turns, with methods that need no model."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from lyra_adapters_server.trainer.channel import LineChannel
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.events import OF_ITSELF, REPLY, Alive, Reply, TrainerEvent, TrainerWarning
from lyra_adapters_server.trainer.spec import Request
from lyra_adapters_server.trainer.suspend import Suspend
from lyra_adapters_server.trainer.worker import Worker, describe_failure

CLOSED: list[str] = []


def endless(params: dict[str, Any]) -> Iterator[TrainerEvent | None]:
    try:
        yield TrainerWarning(reason="BEGAN", message="")
        while True:
            yield None
    except Suspend:
        CLOSED.append("suspended")
        yield TrainerWarning(reason="KEPT", message="")
    finally:
        CLOSED.append("endless")


def short(params: dict[str, Any]) -> Iterator[TrainerEvent | None]:
    yield None
    yield TrainerWarning(reason="SHORT", message=str(params.get("text", "")))


FAILURES = {"value": ValueError("SECRET".lower()), "memory": MemoryError(), "known": TrainerError("KNOWN", "why")}


def failing(params: dict[str, Any]) -> Iterator[TrainerEvent | None]:
    yield None
    raise FAILURES[params["kind"]]


class Server:
    def __init__(self, **methods: Any) -> None:
        self.socket, theirs = socket.socketpair()
        self.file = self.socket.makefile("rb")
        self.worker = Worker(LineChannel(theirs), {"train": endless, "score": short, "load": failing} | methods)
        self.thread = threading.Thread(target=self._run)
        self.theirs = theirs
        self.thread.start()

    def _run(self) -> None:
        self.worker.run()
        self.theirs.close()

    def ask(self, number: int, method: Any, **params: object) -> None:
        self.socket.sendall(Request(id=number, method=method, params=params).model_dump_json().encode() + b"\n")

    def next(self) -> Reply:
        """The next reply but for signs of life, which come as time passes."""
        while True:
            reply: Reply = REPLY.validate_json(self.file.readline())
            if not isinstance(reply.event, Alive):
                return reply

    def close(self) -> None:
        self.file.close()
        self.socket.close()
        self.thread.join(timeout=10)
        assert not self.thread.is_alive()


@pytest.fixture
def server() -> Iterator[Server]:
    CLOSED.clear()
    running = Server()
    yield running
    running.close()


def test_short_requests_end_while_a_long_one_runs(server: Server) -> None:
    server.ask(1, "train")
    assert server.next().event is not None
    server.ask(2, "score", text="hello")
    reply = server.next()
    assert (reply.id, reply.event) == (2, TrainerWarning(reason="SHORT", message="hello"))
    assert server.next() == Reply(id=2, done=True)


def test_a_question_is_answered_and_ended_in_the_midst_of_anothers_turn() -> None:
    asked = threading.Event()

    def training(params: dict[str, Any]) -> Iterator[TrainerEvent | None]:
        yield TrainerWarning(reason="BEGAN", message="")
        asked.wait(10)
        server.worker.between_layers()
        yield TrainerWarning(reason="TURN", message="")

    def answer(params: dict[str, Any]) -> Iterator[TrainerEvent | None]:
        yield TrainerWarning(reason="ANSWER", message="")

    server = Server(train=training, classify=answer)
    server.ask(1, "train")
    assert server.next().id == 1
    server.ask(2, "classify")
    asked.set()
    replies = [server.next() for _ in range(3)]
    server.close()
    # Whoever asked waits for the end, which must not wait for the other's turn.
    assert [(reply.id, reply.done) for reply in replies] == [(2, False), (2, True), (1, False)]


def test_cancel_closes_the_work(server: Server) -> None:
    server.ask(1, "train")
    server.next()
    server.ask(2, "cancel", target=1)
    ended = server.next()
    assert (ended.id, ended.done) == (1, True)
    assert ended.error is not None
    assert ended.error.reason == "CANCELLED"
    assert server.next() == Reply(id=2, done=True)
    assert CLOSED == ["endless"]
    # Cancelling what is gone is no error.
    server.ask(3, "cancel", target=1)
    assert server.next() == Reply(id=3, done=True)


def test_suspended_work_keeps_what_it_needs_and_says_so(server: Server) -> None:
    server.ask(1, "train")
    server.next()
    server.ask(2, "suspend", target=1)
    kept, ended = server.next(), server.next()
    assert (kept.id, kept.event) == (1, TrainerWarning(reason="KEPT", message=""))
    assert ended.error is not None
    assert (ended.id, ended.done, ended.error.reason) == (1, True, "SUSPENDED")
    assert server.next() == Reply(id=2, done=True)
    # What is gone can't be suspended, which is no error.
    server.ask(3, "suspend", target=1)
    assert server.next() == Reply(id=3, done=True)


def test_turns_of_work_are_signs_of_life_and_idleness_gives_none(server: Server) -> None:
    server.ask(1, "train")
    replies = [REPLY.validate_json(server.file.readline()) for _ in range(3)]
    assert [reply for reply in replies if isinstance(reply.event, Alive) and reply.id == OF_ITSELF]
    server.ask(2, "cancel", target=1)
    server.next()
    server.next()
    server.socket.settimeout(1.5)
    with pytest.raises(TimeoutError):
        server.socket.recv(1)


@pytest.mark.parametrize(("kind", "reason"), [("value", "INTERNAL"), ("memory", "OUT_OF_MEMORY"), ("known", "KNOWN")])
def test_a_failure_is_its_requests_alone(
    server: Server, kind: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.ask(1, "train")
    server.next()
    server.ask(2, "load", kind=kind)
    reply = server.next()
    assert (reply.id, reply.done) == (2, True)
    assert reply.error is not None
    assert reply.error.reason == reason
    assert "secret" not in reply.error.message
    assert "secret" not in caplog.text
    server.ask(3, "score")
    assert server.next().id == 3


def test_a_number_in_use_and_broken_lines(server: Server) -> None:
    server.socket.sendall(b'{"id": "SECRET"}\nnot json\n')
    server.ask(1, "score", text="x" * 3_000_000)
    reply = server.next()
    assert isinstance(reply.event, TrainerWarning)
    assert len(reply.event.message) == 3_000_000


def test_ends_with_the_other_side() -> None:
    CLOSED.clear()
    server = Server()
    server.ask(1, "train")
    server.next()
    server.close()
    # Its server is gone, so it kept what the next one can go on from.
    assert CLOSED == ["suspended", "endless"]


def test_torchs_memory_error_on_cpu_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
    assert describe_failure(caught.value).reason == "OUT_OF_MEMORY"
