"""Streams of the synchronous client: they carry out what a plan of `resume` says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc

from lyra_adapters.errors import AdapterError, DataLoss, from_call
from lyra_adapters.models.events import TrainEvent
from lyra_adapters.models.versions import AdapterVersion, PointerChange
from lyra_adapters.resume import JobPlan, PointerPlan, StreamPlan

T = TypeVar("T")

# Starts a call: name of the RPC, request, seconds left.
Opener = Callable[[str, Any, float | None], Any]


class Stream(Generic[T]):
    """An iterator over a stream that survives broken connections; also a context manager.

    The call is sent when the stream is made, not when it is first read. Leaving a stream cancels no job.
    """

    def __init__(self, open_call: Opener, plan: StreamPlan[T]) -> None:
        self._open_call = open_call
        self._plan = plan
        self._closed = threading.Event()
        self._call = self._open()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        while not self._plan.finished and not self._closed.is_set():
            try:
                item = self._plan.feed(next(self._call))
            except StopIteration:
                self._reopen(None)
            except DataLoss as error:
                self._reopen(error)
            except grpc.RpcError as error:
                if self._closed.is_set():
                    break
                self._reopen(from_call(error))
            else:
                if item is not None:
                    return item
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Leaves the stream. May be called from another thread; a waiting reader then ends."""
        self._closed.set()
        self._call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> Any:
        rpc, request = self._plan.next_call()
        return self._open_call(rpc, request, self._plan.remaining())

    def _reopen(self, error: AdapterError | None) -> None:
        self._call.cancel()
        try:
            wait = self._plan.broke(error)
        except AdapterError:
            self._closed.set()
            raise
        if not self._closed.wait(wait):
            self._call = self._open()


class EventStream(Stream[TrainEvent]):
    """The events of one job, each once and in order, to the one that closes it."""

    _plan: JobPlan

    def __init__(self, open_call: Opener, plan: JobPlan, request_id: str = "") -> None:
        self.request_id = request_id
        super().__init__(open_call, plan)

    @property
    def job_id(self) -> str:
        """The job; empty until the first event."""
        return self._plan.job_id

    @property
    def last_sequence(self) -> int:
        """Sequence of the last event seen, from which `watch` can go on."""
        return self._plan.last_sequence

    def result(self) -> AdapterVersion:
        """Reads to the end and returns the version as it stood then.

        Raises:
            TrainingFailed: The job failed.
            TrainingCancelled: The job was cancelled.
            AdapterError: The stream could not be read to its end.
        """
        for _ in self:
            pass
        return self._plan.outcome.result()


class ChangeStream(Stream[PointerChange]):
    """The changes of one adapter's pointer, each once; ends only by `close`."""

    _plan: PointerPlan

    @property
    def last_revision(self) -> int:
        """Revision of the last change seen."""
        return self._plan.last_revision
