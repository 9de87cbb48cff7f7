"""Bytes that are no request are the caller's fault in other services too (health, reflection): INVALID_ARGUMENT.

grpc.aio answers UNKNOWN when a deserializer raises, so handlers get none, and what stands here reads the bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from lyra_adapters_server.errors import Kind, Refusal
from lyra_adapters_server.service.errors import abort

Context = grpc.aio.ServicerContext[Any, Any]


def undecodable() -> Refusal:
    """Refuses bytes that are not the request's message."""
    return Refusal(
        Kind.INVALID_ARGUMENT, "UNDECODABLE_REQUEST", "The bytes sent are not this method's request message."
    )


class DecodingInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the handlers of services whose names do not begin with `ours`; ours are wrapped by RpcInterceptor."""

    def __init__(self, ours: str) -> None:
        self._ours = ours

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler, wrapped."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        if handler_call_details.method.startswith(self._ours):
            return handler
        serializer = handler.response_serializer
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(_stream_stream(handler), response_serializer=serializer)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(_unary_stream(handler), response_serializer=serializer)
        return grpc.unary_unary_rpc_method_handler(_unary_unary(handler), response_serializer=serializer)


def _unary_unary(handler: Any) -> Callable[[bytes, Context], Awaitable[Any]]:
    async def call(data: bytes, context: Context) -> Any:
        try:
            request = handler.request_deserializer(data)
        except DecodeError:
            await abort(context, undecodable())
        return await handler.unary_unary(request, context)

    return call


def _unary_stream(handler: Any) -> Callable[[bytes, Context], AsyncIterator[Any]]:
    async def call(data: bytes, context: Context) -> AsyncIterator[Any]:
        try:
            request = handler.request_deserializer(data)
        except DecodeError:
            await abort(context, undecodable())
        # Health writes to the context instead of yielding.
        answers = handler.unary_stream(request, context)
        if not hasattr(answers, "__aiter__"):
            await answers
            return
        async for response in answers:
            yield response

    return call


def _stream_stream(handler: Any) -> Callable[[AsyncIterator[bytes], Context], AsyncIterator[Any]]:
    async def decoded(requests: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for data in requests:
            yield handler.request_deserializer(data)

    async def call(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
        try:
            async for response in handler.stream_stream(decoded(requests), context):
                yield response
        except DecodeError:
            await abort(context, undecodable())

    return call
