"""TLS, a client certificate and a token over it, with certificates made on the spot."""

import asyncio
import shutil
import subprocess
from pathlib import Path

import grpc
import pytest
from lyra_adapters import AdapterClient, AsyncAdapterClient, Unauthenticated, Unavailable
from lyra_adapters.testing import FakeAdapterServer

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    home = tmp_path_factory.mktemp("tls")
    key, cert = home / "key.pem", home / "cert.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    files = ["-keyout", str(key), "-out", str(cert)]
    subprocess.run([*make.split(), *names, *files], check=True, capture_output=True, timeout=30)
    return key, cert


def test_tls_with_a_client_certificate_and_a_token(pair: tuple[Path, Path]) -> None:
    key, cert = pair
    credentials = grpc.ssl_server_credentials(
        [(key.read_bytes(), cert.read_bytes())], root_certificates=cert.read_bytes(), require_client_auth=True
    )
    with FakeAdapterServer(credentials=credentials) as fake:
        fake.token = "secret"
        with AdapterClient(fake.target, ca=cert, cert=cert, key=key, token="secret") as client:
            assert client.status().version == "fake"
        with AdapterClient(fake.target, ca=cert, cert=cert, key=key) as client, pytest.raises(Unauthenticated):
            client.status()
        with AdapterClient(fake.target, ca=cert, token="secret") as client, pytest.raises(Unavailable):
            client.status()

        async def ask() -> str:
            async with AsyncAdapterClient(fake.target, ca=cert, cert=cert, key=key, token="secret") as client:
                return (await client.status()).version

        assert asyncio.run(ask()) == "fake"
