"""Around every RPC: decoding that refuses bad bytes properly, refusals turned into statuses, and one line of log."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from lyra_adapters_server.errors import Kind, Refusal
from lyra_adapters_server.logs import without_text
from lyra_adapters_server.service.errors import rich_status

log = structlog.get_logger()

PREFIX = "/lyra_adapters."


class RpcInterceptor(grpc.aio.ServerInterceptor):
    """Wraps this service's handlers; health and reflection pass through."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler, wrapped."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(PREFIX):
            return handler
        # No deserializer: the wrapper gets the bytes. (grpc.aio answers UNKNOWN when a deserializer raises.)
        name = method.rpartition("/")[2]
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                _stream(name, handler), response_serializer=handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            _unary(name, handler), response_serializer=handler.response_serializer
        )


def _unary(name: str, handler: Any) -> Callable[[bytes, Any], Awaitable[Any]]:
    async def call(data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        line = _Line(name, context)
        try:
            response = await handler.unary_unary(_decode(handler, data), context)
            line.code = "OK"
            return response
        except Exception as error:
            await line.abort(error)
        finally:
            line.write()

    return call


def _stream(name: str, handler: Any) -> Callable[[bytes, Any], AsyncIterator[Any]]:
    async def call(data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        line = _Line(name, context)
        try:
            async for response in handler.unary_stream(_decode(handler, data), context):
                line.sent += 1
                yield response
            line.code = "OK"
        except Exception as error:
            await line.abort(error)
        finally:
            line.write()

    return call


def _decode(handler: Any, data: bytes) -> Any:
    try:
        return handler.request_deserializer(data)
    except DecodeError:
        raise Refusal(
            Kind.INVALID_ARGUMENT, "UNDECODABLE_REQUEST", "The bytes sent are not this method's request message."
        ) from None


class _Line:
    """The log line of one call. Holds no field of the request that could be a text."""

    def __init__(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        structlog.contextvars.clear_contextvars()
        self._method = method
        self._context = context
        # Asked for now: where the caller left, the line is written after gRPC has freed the call, and to ask a freed
        # call for its peer ends the process.
        self._peer = context.peer()
        self._begun = time.perf_counter()
        # What it stays if the caller goes away.
        self.code = "CANCELLED"
        self.reason: str | None = None
        self.sent = 0

    async def abort(self, error: Exception) -> None:
        """Ends the call with the status that the error maps to."""
        if isinstance(error, grpc.aio.AbortError):
            raise error
        if not isinstance(error, Refusal):
            log.error("rpc_broke", method=self._method, **without_text(error))
            error = Refusal(Kind.INTERNAL, "INTERNAL", "The server met an unexpected error; its log has the details.")
        self.code, self.reason = str(error.kind), error.reason
        await self._context.abort_with_status(rpc_status.to_status(rich_status(error)))

    def write(self) -> None:
        """Writes the line."""
        extra: dict[str, Any] = {"reason": self.reason} if self.reason else {}
        if self.sent:
            extra["sent"] = self.sent
        log.info(
            "rpc",
            method=self._method,
            code=self.code,
            ms=round((time.perf_counter() - self._begun) * 1000, 1),
            peer=self._peer,
            **extra,
        )
