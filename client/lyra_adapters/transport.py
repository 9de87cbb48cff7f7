"""What the synchronous client does with its channel: opening, calling, streaming, closing."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from lyra_adapters import requests
from lyra_adapters.channel import DEFAULT_TIMEOUT, Connection, open_channel
from lyra_adapters.errors import AdapterError, from_call
from lyra_adapters.requests import Call
from lyra_adapters.resume import JobPlan, Reconnect, ReconnectPolicy
from lyra_adapters.streams import EventStream
from lyra_adapters.v1 import adapter_service_pb2 as pb
from lyra_adapters.v1.adapter_service_pb2_grpc import AdapterServiceStub

T = TypeVar("T")


class Transport:
    """One server's channel; a context manager.

    Args:
        target: HOST:PORT. None: the environment variable LYRA_ADAPTERS_SERVER, else 127.0.0.1:50051.
        token: Bearer token. Over TLS, or to a loopback address. None: LYRA_ADAPTERS_TOKEN, LYRA_ADAPTERS_TOKEN_FILE.
        token_file: File with the bearer token, read again for each call.
        tls: Use TLS; implied by `ca`, `cert` and `key`.
        ca: File with root certificates (PEM). None: LYRA_ADAPTERS_CA, else gRPC's own.
        cert: File with the client's certificate (PEM). None: LYRA_ADAPTERS_CERT.
        key: File with the client's key (PEM). None: LYRA_ADAPTERS_KEY.
        insecure: Send the token without TLS beyond loopback too.
        timeout: Seconds for each unary call. Default 30; None: no limit.
        reconnect: How broken streams are taken up again.
        on_reconnect: Called before each wait for a new try.

    Raises:
        ValueError: The settings cannot work together.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        tls: bool = False,
        ca: str | os.PathLike[str] | None = None,
        cert: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        insecure: bool = False,
        timeout: float | None = DEFAULT_TIMEOUT,
        reconnect: ReconnectPolicy | None = None,
        on_reconnect: Callable[[Reconnect], None] | None = None,
    ) -> None:
        self._connection = Connection(
            target=target,
            token=token,
            token_file=token_file,
            tls=tls,
            ca=ca,
            cert=cert,
            key=key,
            insecure=insecure,
        )
        self._timeout = timeout
        self._policy = reconnect or ReconnectPolicy()
        self._on_reconnect = on_reconnect
        self._channel = open_channel(self._connection)
        self._stub = AdapterServiceStub(self._channel)

    @property
    def target(self) -> str:
        """The server's address."""
        return self._connection.address

    def close(self) -> None:
        """Ends all calls and lets the connection go. Jobs go on."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _events(
        self, request: pb.TrainRequest | pb.WatchRequest, request_id: str, heartbeats: bool, timeout: float | None
    ) -> EventStream:
        plan = JobPlan(request, self._policy, heartbeats=heartbeats, timeout=timeout, on_reconnect=self._on_reconnect)
        return EventStream(self._opener(request_id), plan, request_id)

    def _opener(self, request_id: str) -> Callable[[str, Any, float | None], Any]:
        def start(rpc: str, request: Any, timeout: float | None) -> Any:
            metadata = self._connection.metadata(request_id)
            try:
                return getattr(self._stub, rpc)(request, timeout=timeout, metadata=metadata)
            except ValueError as error:  # what gRPC raises on a closed channel
                raise AdapterError("The client is closed.", reason="CLIENT_CLOSED") from error

        return start

    def _run(self, call: Call[T], timeout: float | None) -> T:
        request_id = getattr(call.request, "request_id", "") or requests.new_request_id()
        try:
            answer = self._opener(request_id)(call.rpc, call.request, self._timeout if timeout is None else timeout)
        except grpc.RpcError as error:
            raise from_call(error) from error
        return call.read(answer)
