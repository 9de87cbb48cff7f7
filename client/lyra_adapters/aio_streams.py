"""Streams of the asyncio client: they carry out what a plan of `resume` says."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc

from lyra_adapters.errors import AdapterError, DataLoss, from_call
from lyra_adapters.models.events import TrainEvent
from lyra_adapters.models.versions import AdapterVersion, PointerChange
from lyra_adapters.resume import JobPlan, PointerPlan, StreamPlan
from lyra_adapters.streams import Opener

T = TypeVar("T")


class AsyncStream(Generic[T]):
    """An async iterator over a stream that survives broken connections; also an async context manager.

    The call is sent when the stream is made, not when it is first read. Leaving a stream cancels no job.
    """

    def __init__(self, open_call: Opener, plan: StreamPlan[T]) -> None:
        self._open_call = open_call
        self._plan = plan
        self._closed = False
        self._call = self._open()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._plan.finished and not self._closed:
            try:
                message = await self._call.read()
                if message is grpc.aio.EOF:
                    await self._reopen(None)
                    continue
                item = self._plan.feed(message)
            except DataLoss as error:
                await self._reopen(error)
            except grpc.RpcError as error:
                await self._reopen(from_call(error))
            except asyncio.CancelledError:
                # Raised by gRPC too, for a call whose channel was closed: only a task that is being cancelled ends.
                task = asyncio.current_task()
                if self._closed and not (task and task.cancelling()):
                    break
                if task and task.cancelling():
                    await self.close()
                    raise
                await self._reopen(AdapterError("The call was cancelled.", code=grpc.StatusCode.CANCELLED))
            else:
                if item is not None:
                    return item
        await self.close()
        raise StopAsyncIteration

    async def close(self) -> None:
        """Leaves the stream."""
        self._closed = True
        self._call.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _open(self) -> Any:
        rpc, request = self._plan.next_call()
        return self._open_call(rpc, request, self._plan.remaining())

    async def _reopen(self, error: AdapterError | None) -> None:
        self._call.cancel()
        if self._closed:
            return
        try:
            wait = self._plan.broke(error)
        except AdapterError:
            self._closed = True
            raise
        await asyncio.sleep(wait)
        if not self._closed:
            self._call = self._open()


class AsyncEventStream(AsyncStream[TrainEvent]):
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

    async def result(self) -> AdapterVersion:
        """Reads to the end and returns the version as it stood then.

        Raises:
            TrainingFailed: The job failed.
            TrainingCancelled: The job was cancelled.
            AdapterError: The stream could not be read to its end.
        """
        async for _ in self:
            pass
        return self._plan.outcome.result()


class AsyncChangeStream(AsyncStream[PointerChange]):
    """The changes of one adapter's pointer, each once; ends only by `close`."""

    _plan: PointerPlan

    @property
    def last_revision(self) -> int:
        """Revision of the last change seen."""
        return self._plan.last_revision
