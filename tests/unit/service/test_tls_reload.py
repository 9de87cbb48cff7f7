"""A certificate that is replaced is used from the next connection on; one that can't be used is not."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import grpc
import pytest
from certificates import Certificates
from lyra_adapters_server.config import Settings
from lyra_adapters_server.service.auth.tls import TlsError, TlsFiles, TlsKeeper
from lyra_adapters_server.service.main import CLIENT_CERTIFICATES, connection_options
from structlog.testing import capture_logs


def serial(port: int, *, cafile: Path, chain: tuple[Path, Path] | None = None) -> int:
    """The serial number of the certificate that a new connection is shown."""
    import socket

    from cryptography import x509

    context = ssl.create_default_context(cafile=str(cafile))
    context.set_alpn_protocols(["h2"])
    if chain:
        context.load_cert_chain(*chain)
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
    ):
        found = tls.getpeercert(binary_form=True)
        assert found
        return x509.load_der_x509_certificate(found).serial_number


async def serve(keeper: TlsKeeper) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server()
    port = server.add_secure_port("127.0.0.1:0", keeper.credentials())
    await server.start()
    return server, port


def test_new_files_are_taken_up_and_broken_ones_are_not(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    cert, key = certificates.issue("server")

    async def run() -> None:
        server, port = await serve(TlsKeeper(TlsFiles(cert, key)))
        ask = lambda: asyncio.to_thread(serial, port, cafile=certificates.ca)  # noqa: E731 - short for the test
        first = await ask()
        assert await ask() == first
        certificates.issue("server")
        second = await ask()
        assert second != first
        with capture_logs() as logs:
            good = cert.read_bytes()
            other = certificates.issue("other")[0]
            # A certificate without its key: half of a renewal.
            cert.write_bytes(other.read_bytes())
            assert await ask() == second
            assert await ask() == second
            key.unlink()
            assert await ask() == second
        assert [(line["event"], line["log_level"]) for line in logs] == [("tls_refused", "error")] * 2
        assert "key values mismatch" in logs[0]["message"]
        assert "stays in force" in logs[0]["message"]
        cert.write_bytes(good)
        certificates.issue("server")
        assert await ask() not in (first, second)
        await server.stop(None)

    asyncio.run(run())


def test_the_authority_of_clients_is_read_again_too(tmp_path: Path) -> None:
    mine, others = Certificates(tmp_path / "mine"), Certificates(tmp_path / "others")
    cert, key = mine.issue("server")
    ca = tmp_path / "clients.pem"
    ca.write_bytes(mine.ca.read_bytes())

    def comes_in(target: str, who: Certificates) -> bool:
        chain, secret = who.issue("client", "client.example")
        credentials = grpc.ssl_channel_credentials(mine.ca.read_bytes(), secret.read_bytes(), chain.read_bytes())
        with grpc.secure_channel(target, credentials) as channel:
            try:
                grpc.channel_ready_future(channel).result(1.5)
            except grpc.FutureTimeoutError:
                return False
            return True

    async def run() -> None:
        server, port = await serve(TlsKeeper(TlsFiles(cert, key, ca)))
        target = f"127.0.0.1:{port}"
        assert await asyncio.to_thread(comes_in, target, mine)
        assert not await asyncio.to_thread(comes_in, target, others)
        ca.write_bytes(others.ca.read_bytes())
        assert await asyncio.to_thread(comes_in, target, others)
        assert not await asyncio.to_thread(comes_in, target, mine)
        await server.stop(None)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("missing", "server.key: No such file"),
        ("no key", "mismatch"),
        ("no certificate", "PEM"),
        ("ca", "tls_client_ca"),
    ],
)
def test_files_that_can_not_be_used_are_named(tmp_path: Path, broken: str, says: str) -> None:
    certificates = Certificates(tmp_path)
    cert, key = certificates.issue("server")
    ca = certificates.ca
    if broken == "missing":
        key.unlink()
    elif broken == "no key":
        key.write_bytes(certificates.issue("other")[1].read_bytes())
    elif broken == "no certificate":
        cert.write_text("nothing of use")
    else:
        ca.write_text("nothing of use")
    with pytest.raises(TlsError, match=says):
        TlsKeeper(TlsFiles(cert, key, ca))


@pytest.mark.parametrize(("mode", "told"), [(0o600, False), (0o440, False), (0o604, True), (0o644, True)])
def test_a_key_that_others_can_read_is_told_of(tmp_path: Path, mode: int, told: bool) -> None:
    cert, key = Certificates(tmp_path).issue("server")
    key.chmod(mode)
    with capture_logs() as logs:
        TlsKeeper(TlsFiles(cert, key))
    assert [line["event"] for line in logs] == ["tls_key_open"] * told
    assert all(f"{mode:04o}" in line["message"] and f"chmod 600 {key}" in line["message"] for line in logs)


def test_clients_with_certificates_have_to_show_them_again(tmp_path: Path) -> None:
    """An expired one is refused by a new connection alone; so none is kept for ever."""
    files = [*Certificates(tmp_path).issue("server"), tmp_path / "ca.pem"]
    pair = {"tls_cert": files[0], "tls_key": files[1]}
    assert set(CLIENT_CERTIFICATES) <= set(connection_options(Settings(**pair, tls_client_ca=files[2])))
    assert not set(CLIENT_CERTIFICATES) & set(connection_options(Settings(**pair)))
