"""The server's certificate and key, read again when they were replaced; and whose client certificates are good."""

from __future__ import annotations

import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

from lyra_adapters_server.service.auth.watched import Watched

# The group may read: that is how orchestrators hand files to a server that is not their owner.
OF_STRANGERS = 0o007

log = structlog.get_logger()


class TlsError(Exception):
    """The files can't be used; the message says which and why."""


@dataclass(frozen=True)
class TlsContent:
    """What the files hold."""

    cert: bytes
    key: bytes
    client_ca: bytes | None

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """As gRPC takes it."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.cert)], root_certificates=self.client_ca)


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: the server's certificate with its chain, its key, and the authorities of clients' certificates."""

    cert: Path
    key: Path
    client_ca: Path | None = None

    def read(self) -> TlsContent:
        """Reads and checks the files: gRPC itself would only fail each handshake. Raises TlsError."""
        try:
            content = TlsContent(
                self.cert.read_bytes(), self.key.read_bytes(), self.client_ca.read_bytes() if self.client_ca else None
            )
        except OSError as error:
            raise TlsError(f"TLS: {error.filename}: {error.strerror}") from None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # A password asked for on the terminal would hold the server up.
            context.load_cert_chain(self.cert, self.key, password=lambda: "")
        except OSError as error:  # ssl.SSLError is one
            raise TlsError(f"tls_cert {self.cert} and tls_key {self.key}: {_words(error)}") from None
        if self.client_ca is not None:
            try:
                context.load_verify_locations(self.client_ca)
            except OSError as error:
                raise TlsError(f"tls_client_ca {self.client_ca}: {_words(error)}") from None
        return content

    def warn(self) -> None:
        """Logs that others than the server's user and group can read the key.

        Not refused: the key has been open to them already, and tools that hand keys out leave them so. The tokens file
        is refused, since whoever may write it lets anybody in.
        """
        mode = stat.S_IMODE(self.key.stat().st_mode)
        if mode & OF_STRANGERS:
            log.warning(
                "tls_key_open",
                message=f"tls_key {self.key} has permissions {mode:04o}: who reads it can pass for this server. "
                f"`chmod 600 {self.key}`, and replace the key if others use this machine.",
            )


class TlsKeeper:
    """Hands gRPC the certificate at each new connection: the files' newest that can be used.

    Raises:
        TlsError: The files can't be used. Later, files that can't be used are logged and those before stay in force.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._watched = Watched(*(path for path in (files.cert, files.key, files.client_ca) if path))
        self._watched.changed()
        self._content = files.read()
        self._complaint = ""
        files.warn()

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials for a port. With `client_ca` a client without a good certificate gets no connection."""
        return grpc.dynamic_ssl_server_credentials(
            self._content.configuration(),
            self._current,
            require_client_authentication=self._files.client_ca is not None,
        )

    def _current(self) -> grpc.ServerCertificateConfiguration:
        """Called by gRPC, on a thread of its own, at each handshake."""
        if self._watched.changed():
            before = self._watched.signature()
            try:
                fresh = self._files.read()
            except TlsError as error:
                if str(error) != self._complaint:
                    self._complaint = str(error)
                    log.error("tls_refused", message=f"{error}. The certificate read before stays in force.")
            else:
                # One file was replaced while they were read: the next connection reads them again.
                if self._watched.signature() == before:
                    self._complaint = ""
                    if fresh != self._content:
                        self._content = fresh
                        self._files.warn()
                        log.info("tls_loaded", cert=str(self._files.cert))
        return self._content.configuration()


def _words(error: OSError) -> str:
    """What is wrong, without what a file holds."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return "not the PEM that is needed, without a password"
