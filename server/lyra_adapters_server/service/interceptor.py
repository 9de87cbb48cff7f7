"""Around every RPC: who may call, decoding that refuses bad bytes properly, refusals as statuses, and lines of log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError

from lyra_adapters_server.errors import Kind, Refusal
from lyra_adapters_server.logs import without_text
from lyra_adapters_server.service.auth.audit import Audit
from lyra_adapters_server.service.auth.caller import Caller
from lyra_adapters_server.service.auth.gate import Gate
from lyra_adapters_server.service.auth.roles import FREE
from lyra_adapters_server.service.decoding import undecodable
from lyra_adapters_server.service.errors import abort
from lyra_adapters_server.service.metrics import Metrics
from lyra_adapters_server.service.streams import StreamGate

log = structlog.get_logger()

PREFIX = "/lyra_adapters."


class RpcInterceptor(grpc.aio.ServerInterceptor):
    """Wraps handlers: this service's whole, others' behind the gate, and health not at all."""

    def __init__(self, gate: Gate, streams: StreamGate, metrics: Metrics) -> None:
        self._gate = gate
        self._streams = streams
        self._metrics = metrics

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler, wrapped."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method in FREE:
            return handler
        if not method.startswith(PREFIX):
            return _guarded(method, handler, self._gate, self._metrics)
        # No deserializer: the wrapper gets the bytes, and reads them once the caller is admitted. (grpc.aio answers
        # UNKNOWN when a deserializer raises.)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                _stream(method, handler, self._gate, self._streams, self._metrics),
                response_serializer=handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            _unary(method, handler, self._gate, self._metrics), response_serializer=handler.response_serializer
        )


def _unary(method: str, handler: Any, gate: Gate, metrics: Metrics) -> Callable[[bytes, Any], Awaitable[Any]]:
    async def call(data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        line = _Line(method, context, metrics)
        try:
            line.enter(gate, handler, data)
            request = line.read(handler, data)
            response = await handler.unary_unary(request, context)
            line.answered(response)
            line.code = "OK"
            return response
        except Exception as error:
            await line.abort(error)
        finally:
            line.write()

    return call


def _stream(
    method: str, handler: Any, gate: Gate, streams: StreamGate, metrics: Metrics
) -> Callable[[bytes, Any], AsyncIterator[Any]]:
    async def call(data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        line = _Line(method, context, metrics)
        try:
            caller = line.enter(gate, handler, data)
            with streams.opened(caller.principal, line.method):
                request = line.read(handler, data)
                async for response in handler.unary_stream(request, context):
                    gate.check_still(caller)
                    if not line.sent:
                        # Now, not when the stream ends, which may be long after what the caller asked for was done.
                        line.answered(response)
                    line.sent += 1
                    yield response
            line.code = "OK"
        except Exception as error:
            await line.abort(error)
        finally:
            line.write()

    return call


def _guarded(method: str, handler: Any, gate: Gate, metrics: Metrics) -> Any:
    """A handler of another service (reflection) behind the gate; all of them stream both ways."""

    async def call(requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        line = _Line(method, context, metrics)
        try:
            line.enter(gate)
            async for response in handler.stream_stream(requests, context):
                yield response
        except Exception as error:
            await line.abort(error)

    return grpc.stream_stream_rpc_method_handler(
        call, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
    )


def _decode(handler: Any, data: bytes) -> Any:
    try:
        return handler.request_deserializer(data)
    except DecodeError:
        raise undecodable() from None


class _Line:
    """The log line of one call. Holds no field of the request that could be a text."""

    def __init__(self, method: str, context: grpc.aio.ServicerContext[Any, Any], metrics: Metrics) -> None:
        structlog.contextvars.clear_contextvars()
        self._full_method = method
        self.method = method.rpartition("/")[2]
        self._context = context
        self._metrics = metrics
        self._timed = False
        # Asked for now: where the caller left, the line is written after gRPC has freed the call, and to ask a freed
        # call for its peer ends the process.
        self._peer = context.peer()
        self._audit = Audit(self.method, self._peer)
        self._principal: str | None = None
        self._begun = time.perf_counter()
        # What it stays if the caller goes away.
        self.code = "CANCELLED"
        self.reason: str | None = None
        self.sent = 0

    def enter(self, gate: Gate, handler: Any = None, data: bytes = b"") -> Caller:
        """Who calls. Raises Refusal unless it may call this RPC."""
        caller = gate.authenticate(self._context)
        self._principal = caller.principal
        self._audit.called_by(caller)
        try:
            gate.admit(self._full_method, caller)
        except Refusal:
            if handler is not None:
                # Of one who is known, the audit line says what it asked for.
                with contextlib.suppress(Refusal):
                    self._audit.asked(_decode(handler, data))
            raise
        return caller

    def read(self, handler: Any, data: bytes) -> Any:
        """The request. Raises Refusal for bytes that are none."""
        request = _decode(handler, data)
        self._audit.asked(request)
        return request

    def answered(self, response: Any) -> None:
        """Notes what was done, which is known from the first answer."""
        self._time()
        self._audit.note(response)
        self._audit.write("OK")

    def _time(self) -> None:
        """Notes how long the answer took; of a stream: the first one."""
        if not self._timed:
            self._timed = True
            self._metrics.call_seconds.labels(self.method).observe(time.perf_counter() - self._begun)

    async def abort(self, error: Exception) -> None:
        """Ends the call with the status that the error maps to."""
        if isinstance(error, grpc.aio.AbortError):
            raise error
        if not isinstance(error, Refusal):
            log.error("rpc_broke", method=self.method, **without_text(error))
            error = Refusal(Kind.INTERNAL, "INTERNAL", "The server met an unexpected error; its log has the details.")
        self.code, self.reason = str(error.kind), error.reason
        self._time()
        self._audit.write(self.code, self.reason)
        await abort(self._context, error)

    def write(self) -> None:
        """Writes the line, and counts the call."""
        self._metrics.call_ended(self.method, self.code, self.reason)
        self._audit.write(self.code, self.reason)
        extra: dict[str, Any] = {"principal": self._principal} if self._principal else {}
        if self.reason:
            extra["reason"] = self.reason
        if self.sent:
            extra["sent"] = self.sent
        log.info(
            "rpc",
            method=self.method,
            code=self.code,
            ms=round((time.perf_counter() - self._begun) * 1000, 1),
            peer=self._peer,
            **extra,
        )
