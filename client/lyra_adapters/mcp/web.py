"""Streamable HTTP: where to listen, and whom to answer."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import uvicorn
from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

from lyra_adapters.channel import MAX_MESSAGE_BYTES, is_loopback

PATH = "/mcp"
DEFAULT_LISTEN = "127.0.0.1:50052"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, slots=True)
class Place:
    """Where to listen and the names by which callers may reach it."""

    host: str
    port: int
    names: tuple[str, ...]

    @classmethod
    def parse(cls, listen: str, names: Sequence[str]) -> Self:
        """Reads HOST:PORT.

        Raises:
            ValueError: It is none, or others could reach it and nobody said under which name.
        """
        host, _, port = listen.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"--http is {listen!r}; it must be HOST:PORT, for example {DEFAULT_LISTEN}.")
        if not is_loopback(listen) and not names:
            raise ValueError(
                f"--http {listen} can be reached from other machines, and whoever reaches it can train and roll back. "
                f"Listen on {DEFAULT_LISTEN}, or name it with --allow-host if that is meant."
            )
        return cls(host, int(port), tuple(names))

    def security(self) -> TransportSecuritySettings:
        """Which Host and Origin headers are answered: a web page must not reach it by a name of its own."""
        hosts = [*(LOOPBACK if is_loopback(f"[{self.host}]") else ()), *self.names]
        every = [name for host in hosts for name in (host, f"{host}:*")]
        return TransportSecuritySettings(
            allowed_hosts=every,
            allowed_origins=[f"{scheme}://{name}" for name in every for scheme in ("http", "https")],
        )


def serve(server: MCPServer[Any], place: Place) -> None:
    """Serves until a signal comes. Says on standard error where, since the port may have been left open."""
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    app = server.streamable_http_app(
        streamable_http_path=PATH, max_request_body_size=MAX_MESSAGE_BYTES, transport_security=place.security()
    )
    # No access log: it would say who asked when. Long calls end with their client's patience, not with ours.
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5)
    with socket.create_server((place.host, place.port), family=family) as listener:
        name = f"[{place.host}]" if ":" in place.host else place.host
        print(f"lyra-adapters-mcp: http://{name}:{listener.getsockname()[1]}{PATH}", file=sys.stderr, flush=True)
        uvicorn.Server(config).run(sockets=[listener])
