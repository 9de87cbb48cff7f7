"""Callers that live through crashes: they try again with the same request id, and follow streams from where they broke.

Only UNAVAILABLE may be seen on the way; every other status is a broken promise.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from journal import CLOSING, Journal
from lyra_adapters.v1 import adapter_service_pb2 as pb
from lyra_adapters.v1 import adapter_service_pb2_grpc as pb_grpc
from tiny_base import rows

PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)


class Line:
    """Where the server is now; it moves with every restart."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._address = ""
        self._channel: grpc.Channel | None = None
        self.over = threading.Event()

    def move(self, address: str) -> None:
        """The server is up at an address, or down where it is empty."""
        with self._changed:
            if self._channel is not None:
                self._channel.close()
            self._address = address
            self._channel = grpc.insecure_channel(address) if address else None
            self._changed.notify_all()

    def stub(self) -> pb_grpc.AdapterServiceStub:
        """A stub once the server is up. Raises InterruptedError at the campaign's end."""
        with self._changed:
            while self._channel is None:
                if self.over.is_set():
                    raise InterruptedError
                self._changed.wait(0.5)
            return pb_grpc.AdapterServiceStub(self._channel)


class Callers:
    """Any number of callers, each on a thread of its own."""

    def __init__(self, line: Line, journal: Journal) -> None:
        self._line = line
        self._journal = journal
        self._pool = ThreadPoolExecutor(256, thread_name_prefix="caller")
        self._futures: list[Any] = []

    def train(self, adapter: str, count: int, epochs: int, *, twice: bool = False) -> str:
        """Asks for a training and follows it to its end; returns its request id. `twice`: two callers at once ask."""
        request = pb.TrainRequest(
            request_id=str(uuid.uuid4()),
            adapter=adapter,
            activation=pb.ACTIVATION_ALWAYS,
            samples=[
                pb.Sample(**{k: f"LABEL_{v}" if k.endswith("label") else v for k, v in row.items()})
                for row in rows(count)
            ],
            training=pb.TrainingConfig(epochs=epochs, learning_rate=0.01),
        )
        for _ in range(2 if twice else 1):
            self._spawn(lambda: self._train(request))
        return request.request_id

    def rollback(self, adapter: str, to_version: str = "") -> None:
        """Moves a pointer back."""
        request = pb.RollbackRequest(
            adapter=adapter, to_version=to_version, request_id=str(uuid.uuid4()), actor="crash"
        )
        self._spawn(lambda: self._change(lambda stub: stub.Rollback(request, timeout=20)))

    def activate(self, adapter: str, version: str) -> None:
        """Puts a version in force."""
        request = pb.ActivateRequest(
            adapter=adapter, version=version, request_id=str(uuid.uuid4()), actor="crash", allow_rejected=True
        )
        self._spawn(lambda: self._change(lambda stub: stub.Activate(request, timeout=20)))

    def record(self) -> None:
        """Records a review."""
        name = uuid.uuid4().hex
        sample = pb.Sample(id=name, premise=f"p {name}", hypothesis="h", correct_label="LABEL_SUPPORTS")
        request = pb.RecordFeedbackRequest(reviews=[pb.Review(sample=sample, task_id="crash")])

        def work() -> None:
            if self._insist(lambda stub: stub.RecordFeedback(request, timeout=20)) is not None:
                self._journal.feedback.add(name)

        self._spawn(work)

    def delete_feedback(self, name: str) -> None:
        """Deletes a review; from now on it may be there or not, and once it is acknowledged it must not."""
        self._journal.feedback.discard(name)
        request = pb.DeleteFeedbackRequest(sample_ids=[name])

        def work() -> None:
            if self._insist(lambda stub: stub.DeleteFeedback(request, timeout=20)) is not None:
                self._journal.forgotten.add(name)

        self._spawn(work)

    def delete_version(self, adapter: str, number: int) -> None:
        """Deletes a version, if it is there and not in force."""
        request = pb.DeleteVersionRequest(adapter=adapter, version=f"v{number}", actor="crash")
        refused = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND)

        def work() -> None:
            if self._insist(lambda stub: stub.DeleteVersion(request, timeout=20), also=refused) is not None:
                self._journal.deleted.add((adapter, number))

        self._spawn(work)

    def make_format(self, adapter: str, number: int) -> None:
        """Downloads a version as GGUF, which is made for it; meanwhile it may be deleted."""
        request = pb.DownloadRequest(adapter=adapter, version=f"v{number}", format=pb.ADAPTER_FORMAT_GGUF)
        refused = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND)
        self._spawn(lambda: self._insist(lambda stub: list(stub.Download(request, timeout=60)), also=refused))

    def cancel(self, job_id: str) -> None:
        """Cancels a waiting job. A repeated cancellation of a cancelled job is refused: FAILED_PRECONDITION."""
        request = pb.CancelRequest(job_id=job_id, actor="crash")

        def work() -> None:
            answer = self._insist(
                lambda stub: stub.Cancel(request, timeout=20), also=(grpc.StatusCode.FAILED_PRECONDITION,)
            )
            if answer is not None:
                self._journal.cancelled.add(job_id)

        self._spawn(work)

    def wait(self, seconds: float) -> bool:
        """Waits until every caller has what it asked for. False: not in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if all(future.done() for future in self._futures):
                for future in self._futures:
                    future.result()
                return True
            time.sleep(0.05)
        return False

    def end(self) -> None:
        """Ends every caller."""
        self._line.over.set()
        self._line.move("")
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _spawn(self, work: Callable[[], None]) -> None:
        self._futures.append(self._pool.submit(self._quietly, work))

    def _quietly(self, work: Callable[[], None]) -> None:
        try:
            work()
        except InterruptedError:
            return

    def _train(self, request: pb.TrainRequest) -> None:
        def first(stub: Any) -> pb.TrainEvent:
            call = stub.Train(request, timeout=60)
            event = next(iter(call))
            call.cancel()
            return event

        event = self._insist(first)
        assert event is not None
        self._journal.acknowledged(request.request_id, event.job_id)
        self._journal.saw(event)
        self._follow(event.job_id)

    def _follow(self, job_id: str) -> None:
        while job_id not in self._journal.closed:
            after = self._journal.last(job_id)
            try:
                for event in self._line.stub().Watch(pb.WatchRequest(job_id=job_id, after_sequence=after)):
                    self._journal.saw(event)
            except (grpc.RpcError, ValueError) as error:
                self._passing(error, f"the stream of {job_id}")

    def _change(self, call: Callable[[Any], Any]) -> None:
        # At the beginning of its history an adapter can't be rolled back.
        answer = self._insist(call, also=(grpc.StatusCode.FAILED_PRECONDITION,))
        if answer is not None and answer.change.pointer_revision:
            change = answer.change
            number = int(change.active.rpartition("_v")[2]) if "_v" in change.active else 0
            with self._journal.lock:
                self._journal.changes[change.adapter, change.pointer_revision] = number

    def _insist(self, call: Callable[[Any], Any], also: tuple[grpc.StatusCode, ...] = ()) -> Any:
        """Calls until there is an answer; None for a status in `also`."""
        while True:
            try:
                return call(self._line.stub())
            except (grpc.RpcError, ValueError) as error:
                if isinstance(error, grpc.RpcError) and error.code() in also:
                    return None
                self._passing(error, "a call")

    def _passing(self, error: Exception, what: str) -> None:
        if self._line.over.is_set():
            raise InterruptedError
        # ValueError: the channel was closed under the call, by the restart.
        if isinstance(error, grpc.RpcError) and error.code() not in PASSING:
            self._journal.complain(f"{what} got {error.code()}: {error.details()}")
            raise InterruptedError
        time.sleep(0.05)


__all__ = ["CLOSING", "Callers", "Line"]
