"""How to reach a server: address, TLS, credentials, and the channel's options with the reason for each."""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

SERVER_VARIABLE = "LYRA_ADAPTERS_SERVER"
# What is not given comes from these, so that secrets need not be arguments, which others on the machine see.
TOKEN_VARIABLE = "LYRA_ADAPTERS_TOKEN"  # noqa: S105 - the variable's name
TOKEN_FILE_VARIABLE = "LYRA_ADAPTERS_TOKEN_FILE"  # noqa: S105 - the variable's name
TLS_VARIABLES = {"ca": "LYRA_ADAPTERS_CA", "cert": "LYRA_ADAPTERS_CERT", "key": "LYRA_ADAPTERS_KEY"}
DEFAULT_SERVER = "127.0.0.1:50051"
DEFAULT_TIMEOUT = 30.0
SERVICE = "lyra_adapters.v1.AdapterService"

# A request has up to 16 MiB of samples; the rest is room for ids and framing. gRPC's own limit is 4 MiB.
MAX_MESSAGE_BYTES = 20 * 1024 * 1024

# Only UNAVAILABLE (nothing was done, or nothing that matters) and only calls that may be repeated. Streams and calls
# that move a pointer are not in it: the first are resumed by the client, the second are the caller's to repeat.
RETRIED = ("Status", "List", "ListJobs", "Classify", "RecordFeedback", "ListFeedback")
SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": SERVICE, "method": method} for method in RETRIED],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.2s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}

OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A dead peer on a quiet stream is noticed after 80 s. The server allows pings this often; one that does not
    # would answer GOAWAY `too_many_pings`.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # Pings go on while the server has nothing to say; the default stops after two.
    ("grpc.http2.max_pings_without_data", 0),
    # A server that comes back is found within seconds; the default waits up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.enable_retries", 1),
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where the server is and how to speak to it.

    Attributes:
        target: HOST:PORT, or any gRPC target (`unix:/run/lyra.sock`). None: the environment variable
            LYRA_ADAPTERS_SERVER, else 127.0.0.1:50051.
        token: Bearer token. None, and no token_file: the environment variable LYRA_ADAPTERS_TOKEN, or the file that
            LYRA_ADAPTERS_TOKEN_FILE names, if one is set.
        token_file: File with the bearer token; read again for each call, so that it can be replaced.
        tls: Use TLS. Implied by any of the next three.
        ca: File with root certificates (PEM). None: the environment variable LYRA_ADAPTERS_CA, else the system's as
            gRPC knows them.
        cert: File with the client's certificate (PEM), for mutual TLS. None: LYRA_ADAPTERS_CERT.
        key: File with the client's key (PEM). None: LYRA_ADAPTERS_KEY.
        insecure: Send the token without TLS to other machines too, for anyone on the way to read.
    """

    target: str | None = None
    token: str | None = None
    token_file: str | os.PathLike[str] | None = None
    tls: bool = False
    ca: str | os.PathLike[str] | None = None
    cert: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        """Fills in what the environment says, and refuses combinations that cannot work or would leak the token.

        Raises:
            ValueError: Both kinds of token, half a key pair, or a token over an open network without TLS.
        """
        if not self.has_token:
            self._take("token", TOKEN_VARIABLE)
        if not self.has_token:
            self._take("token_file", TOKEN_FILE_VARIABLE)
        for field, variable in TLS_VARIABLES.items():
            if getattr(self, field) is None:
                self._take(field, variable)
        if self.token is not None and self.token_file is not None:
            raise ValueError("Give either token or token_file, not both.")
        if (self.cert is None) != (self.key is None):
            raise ValueError("A client certificate needs its key, and a key its certificate: give cert and key.")
        if self.has_token and not (self.secure or self.insecure or is_loopback(self.address)):
            raise ValueError(
                f"The token would travel unencrypted to {self.address}. Use TLS (tls=True or ca=FILE), a tunnel to a "
                "loopback address, or say insecure=True where nobody listens on the way."
            )

    def _take(self, field: str, variable: str) -> None:
        """Takes a field from the environment, if it is set there."""
        if value := os.environ.get(variable):
            object.__setattr__(self, field, value)

    @property
    def address(self) -> str:
        """The target with its default filled in."""
        return self.target or os.environ.get(SERVER_VARIABLE) or DEFAULT_SERVER

    @property
    def secure(self) -> bool:
        """Whether TLS is used."""
        return self.tls or any(value is not None for value in (self.ca, self.cert, self.key))

    @property
    def has_token(self) -> bool:
        """Whether calls carry a token."""
        return self.token is not None or self.token_file is not None

    def options(self) -> list[tuple[str, Any]]:
        """The channel's options."""
        # A proxy from the environment has no business between a client and its own machine.
        return [*OPTIONS, *([("grpc.enable_http_proxy", 0)] if is_loopback(self.address) else [])]

    def credentials(self) -> grpc.ChannelCredentials | None:
        """TLS and, over it, the token; None without TLS."""
        if not self.secure:
            return None
        channel = grpc.ssl_channel_credentials(
            root_certificates=_bytes(self.ca), private_key=_bytes(self.key), certificate_chain=_bytes(self.cert)
        )
        if not self.has_token:
            return channel
        return grpc.composite_channel_credentials(channel, grpc.metadata_call_credentials(_Bearer(self._header)))

    def metadata(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """Metadata of a call: its id for the server's log, and the token where no TLS carries it."""
        token = (self._header(),) if self.has_token and not self.secure else ()
        return (("x-request-id", request_id), *token)

    def _header(self) -> tuple[str, str]:
        token = self.token if self.token_file is None else Path(self.token_file).read_text(encoding="utf-8")
        return "authorization", f"Bearer {(token or '').strip()}"


class _Bearer(grpc.AuthMetadataPlugin):
    """Adds the token to each call over TLS."""

    def __init__(self, header: Callable[[], tuple[str, str]]) -> None:
        self._header = header

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        try:
            callback((self._header(),), None)
        except OSError as error:
            callback((), error)


def is_loopback(address: str) -> bool:
    """Whether an address stays on this machine."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    name = address.rsplit("/", 1)[-1].removeprefix("ipv4:").removeprefix("ipv6:").removeprefix("dns:")
    return all(_is_loopback_host(_host(one)) for one in name.split(","))


def _host(name: str) -> str:
    if name.startswith("["):
        return name[1:].split("]", 1)[0]
    # More than one colon is an IPv6 address without a port.
    return name.rsplit(":", 1)[0] if name.count(":") == 1 else name


def _is_loopback_host(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def open_channel(connection: Connection) -> grpc.Channel:
    """A channel for AdapterClient; connects on its first call."""
    credentials = connection.credentials()
    if credentials is None:
        return grpc.insecure_channel(connection.address, options=connection.options())
    return grpc.secure_channel(connection.address, credentials, options=connection.options())


def open_aio_channel(connection: Connection) -> grpc.aio.Channel:
    """A channel for AsyncAdapterClient; made and used in one event loop."""
    credentials = connection.credentials()
    if credentials is None:
        return grpc.aio.insecure_channel(connection.address, options=connection.options())
    return grpc.aio.secure_channel(connection.address, credentials, options=connection.options())


def _bytes(path: str | os.PathLike[str] | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()
