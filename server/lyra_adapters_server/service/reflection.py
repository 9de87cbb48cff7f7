"""Server reflection that also finds methods, so that `grpcurl describe …Service.Method` works."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha import reflection


class MethodFindingPool:
    """The descriptor pool; its look-up by symbol knows services and messages, but not the methods of a service."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def FindFileContainingSymbol(self, symbol: str) -> Any:  # noqa: N802 - the pool's own name
        """The file that defines a symbol. Raises KeyError."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            return self._pool.FindServiceByName(service).methods_by_name[method].containing_service.file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)


def serve_reflection(server: grpc.aio.Server, service_names: tuple[str, ...]) -> None:
    """Adds reflection for these services to a server."""
    reflection.enable_server_reflection((*service_names, reflection.SERVICE_NAME), server, pool=MethodFindingPool())
