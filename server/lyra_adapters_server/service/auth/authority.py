"""Tells from a call's token or certificate who calls; takes up a new tokens file as soon as it is there."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import structlog

from lyra_adapters_server.errors import Kind, Refusal
from lyra_adapters_server.scope import EVERYTHING
from lyra_adapters_server.service.auth.caller import ANONYMOUS, Caller, Role
from lyra_adapters_server.service.auth.tokens import Tokens, TokensFileError, read_tokens
from lyra_adapters_server.service.auth.watched import Watched

log = structlog.get_logger()

Context = grpc.aio.ServicerContext[Any, Any]

MAX_TOKEN = 4096
MAX_NAME = 200


class Authority:
    """Says who calls.

    Args:
        tokens_file: Who may call; None: whoever reaches the server.
        certificates: Whether clients show certificates, which gRPC has checked against `tls_client_ca`.

    Raises:
        TokensFileError: The file can't be used. Later, a file that can't be used is logged and the one before stays in
            force.
    """

    def __init__(self, tokens_file: Path | None, *, certificates: bool) -> None:
        self._path = tokens_file
        self._certificates = certificates
        self._watched = Watched(tokens_file) if tokens_file else Watched()
        self._tokens: Tokens | None = None
        self._complaint = ""
        if tokens_file:
            self._watched.changed()
            self._tokens = self._read(tokens_file)

    def authenticate(self, context: Context) -> Caller:
        """The caller of an RPC. Raises Refusal (UNAUTHENTICATED)."""
        tokens = self._current()
        headers = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
        names = _certificate_names(context.auth_context()) if self._certificates else []
        if tokens is None:
            return _by_certificate(names) if self._certificates else ANONYMOUS
        if headers:
            caller = tokens.find(_bearer(headers))
            if caller is None:
                raise _unauthenticated(
                    "TOKEN_UNKNOWN",
                    "The bearer token is not one of this server's; check that it is whole, or get a new one.",
                )
        else:
            caller = tokens.find_certificate(names)
            if caller is None:
                raise _no_credentials(names)
        if _expired(caller):
            raise _unauthenticated(
                "TOKEN_EXPIRED", "The credentials have expired; ask the server's operator for new ones."
            )
        return caller

    def holds(self, caller: Caller) -> bool:
        """Whether a caller who was let in would still be: a stream may last longer than a token."""
        tokens = self._current()
        return tokens is None or (caller in tokens and not _expired(caller))

    def _current(self) -> Tokens | None:
        if self._path and self._watched.changed():
            try:
                fresh = self._read(self._path)
            except TokensFileError as error:
                if str(error) != self._complaint:
                    self._complaint = str(error)
                    log.error("tokens_refused", message=f"{error}. The tokens read before stay in force.")
            else:
                self._complaint = ""
                if fresh != self._tokens:
                    self._tokens = fresh
                    log.info("tokens_loaded", tokens=len(fresh.by_digest), certificates=len(fresh.by_certificate))
        return self._tokens

    def _read(self, path: Path) -> Tokens:
        tokens = read_tokens(path)
        if tokens.by_certificate and not self._certificates:
            raise TokensFileError(f"{path} has [[certificate]], which needs tls_client_ca")
        return tokens


def _bearer(headers: Sequence[str | bytes]) -> str:
    """The token of the one authorization header. Raises Refusal."""
    header = headers[0]
    if len(headers) == 1 and isinstance(header, str) and len(header) <= MAX_TOKEN:
        scheme, _, token = header.partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            return token.strip()
    raise _unauthenticated(
        "TOKEN_MALFORMED", "The authorization header is not understood; send it once, as `authorization: Bearer TOKEN`."
    )


def _certificate_names(properties: Mapping[str, Iterable[bytes]]) -> list[str]:
    """The names of the client's certificate: alternative names, then the common name."""
    found: list[str] = []
    for key in ("x509_subject_alternative_name", "x509_common_name"):
        found += [name.decode("utf-8", "replace") for name in properties.get(key, ())]
    return found


def _by_certificate(names: list[str]) -> Caller:
    """Without a tokens file everyone to whom the authority gave a certificate may do everything."""
    named = [name for name in names if name.isprintable() and 0 < len(name) <= MAX_NAME]
    # The common name, which comes last, is what people call a client by.
    principal = named[-1] if named else ""
    if principal in ("", ANONYMOUS.principal):
        raise _unauthenticated("CERTIFICATE_UNKNOWN", "The client's certificate names nobody; it needs a common name.")
    return Caller(principal, Role.OPERATE, EVERYTHING)


def _no_credentials(names: list[str]) -> Refusal:
    if names:
        return _unauthenticated(
            "CERTIFICATE_UNKNOWN",
            "The client's certificate is valid, but none of its names is in the server's tokens file; send a token "
            "(`authorization: Bearer TOKEN`), or have the name added.",
        )
    return _unauthenticated(
        "TOKEN_MISSING", "This server asks for a token; send the header `authorization: Bearer TOKEN`."
    )


def _expired(caller: Caller) -> bool:
    return caller.expires is not None and time.time() >= caller.expires


def _unauthenticated(reason: str, message: str) -> Refusal:
    return Refusal(Kind.UNAUTHENTICATED, reason, message)
