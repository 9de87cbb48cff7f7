"""Where the server may listen: beyond loopback only with TLS and proven callers, unless it is told."""

from __future__ import annotations

import pytest
from lyra_adapters_server.config import ConfigError, Settings
from lyra_adapters_server.service.auth.exposure import check_exposure
from pydantic import ValidationError

TLS = {"tls_cert": "c.pem", "tls_key": "k.pem"}
TOKENS = {"tokens_file": "t.toml"}
CLIENTS = {"tls_client_ca": "ca.pem"}
BEYOND = ("0.0.0.0:50051", "[::]:50051", "10.0.0.1:50051", "gpu.example.org:50051", "localhost.example.org:1")


@pytest.mark.parametrize("listen", BEYOND)
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "train and roll back"),
        (TLS, "who they are"),
        (TOKENS, "in clear"),
        (TLS | TOKENS, ""),
        (TLS | CLIENTS, ""),
        (TLS | CLIENTS | TOKENS, ""),
    ],
    ids=["nothing", "tls", "tokens", "tls and tokens", "mutual tls", "all"],
)
def test_beyond_loopback(listen: str, given: dict[str, str], says: str) -> None:
    settings = Settings(listen=listen, **given)
    if says:
        with pytest.raises(ConfigError, match=f"not a loopback.*{says}.*--insecure"):
            check_exposure(settings)
    else:
        check_exposure(settings)
    check_exposure(Settings(listen=listen, insecure=True, **given))


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.1.2.3:1", "[::1]:50051", "localhost:50051"])
@pytest.mark.parametrize("given", [{}, TLS, TOKENS])
def test_loopback_asks_for_nothing(listen: str, given: dict[str, str]) -> None:
    check_exposure(Settings(listen=listen, **given))


@pytest.mark.parametrize("given", [{"tls_cert": "c.pem"}, {"tls_key": "k.pem"}, CLIENTS, CLIENTS | TOKENS])
def test_half_of_tls_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="tls_cert and tls_key"):
        Settings(**given)
