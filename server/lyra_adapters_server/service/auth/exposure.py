"""Who can reach the port, and whether that is safe: beyond loopback only with TLS and proven callers, or if told."""

from __future__ import annotations

import contextlib
import ipaddress

from lyra_adapters_server.config import ConfigError, Settings


def check_exposure(settings: Settings) -> None:
    """Raises ConfigError for an address that strangers reach, unless they can't call or the settings say `insecure`."""
    host = split_address("listen", settings.listen)
    if is_loopback(host) or settings.insecure:
        return
    proven = settings.tokens_file is not None or settings.tls_client_ca is not None
    missing = {
        (True, False): "callers are not asked who they are. Set tokens_file (`lyra-adapters tokens new` makes it), or "
        "tls_client_ca",
        (False, True): "without TLS tokens travel in clear, for anyone on the way to read. Set tls_cert and tls_key",
        (False, False): "whoever reaches the port may train and roll back. Set tls_cert, tls_key and tokens_file "
        "(`lyra-adapters tokens new` makes it)",
    }.get((settings.tls_cert is not None, proven))
    if missing:
        raise ConfigError(
            f"listen: {host} is not a loopback address, and {missing}; or listen on 127.0.0.1. Where something in "
            "front of the server sees to that, say --insecure."
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host's name or address."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host == "localhost"


def split_address(setting: str, address: str) -> str:
    """The host of a HOST:PORT. Raises ConfigError."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or int(port) > 65535 or not host:
        raise ConfigError(f"{setting}: {address!r} is no HOST:PORT")
    return host
