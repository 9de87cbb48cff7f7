"""The tokens file: who may call, as what, with which adapters. Tokens themselves are not in it, only their digests.

[[token]]
principal = "team-a"
role = "train"                        # read, train or operate
adapters = ["team_a_*"]
sha256 = "…64 hexadecimal digits…"    # of the token
expires = 2027-01-01T00:00:00Z        # optional

[[certificate]]                       # with tls_client_ca: a client's certificate in the place of a token
principal = "lyra"
role = "operate"
adapters = ["*"]
name = "lyra.internal"                # the certificate's common name or one of its alternative names
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from lyra_adapters_server.scope import PATTERN_RULE, Scope, is_pattern
from lyra_adapters_server.service.auth.caller import ANONYMOUS, Caller, Role

TOKEN_PREFIX = "lyra_"  # noqa: S105 - what tokens begin with, so that scanners of secrets know one
_PRINCIPAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
# The group may read: that is how orchestrators hand files to a server that is not their owner.
TOO_OPEN = 0o027


class TokensFileError(Exception):
    """The file can't be used; the message says why and what would do. It never holds a digest."""


def new_token() -> str:
    """A token of 256 random bits: too many to guess, so that a plain digest of it can be kept."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def digest_of(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def _principal(value: str) -> str:
    if not _PRINCIPAL.fullmatch(value) or value == ANONYMOUS.principal:
        raise ValueError(
            "must be 1 to 64 letters, digits and . _ @ -, beginning with a letter or digit, and not 'anonymous'"
        )
    return value


def _role(value: Any) -> Any:
    if not isinstance(value, str) or value.upper() not in Role.__members__:
        raise ValueError(f"must be one of {', '.join(map(str, Role))}")
    return Role[value.upper()]


def _adapters(value: list[str]) -> list[str]:
    if not value or not all(map(is_pattern, value)):
        raise ValueError(f'must be a list of at least one pattern, each {PATTERN_RULE}; ["*"] is every adapter')
    return value


def _digest(value: str) -> str:
    if not _DIGEST.fullmatch(value.lower()):
        raise ValueError("must be 64 hexadecimal digits: the SHA-256 of the token")
    return value.lower()


def _moment(value: datetime | None) -> datetime | None:
    if value is not None and value.tzinfo is None:
        raise ValueError("needs its offset from UTC, as in 2027-01-01T00:00:00Z")
    return value


Moment = Annotated[datetime | None, AfterValidator(_moment)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    principal: Annotated[str, AfterValidator(_principal)]
    role: Annotated[Role, BeforeValidator(_role)]
    adapters: Annotated[list[str], AfterValidator(_adapters)]
    expires: Moment = None

    def caller(self) -> Caller:
        """Whom the entry lets in."""
        expires = self.expires.timestamp() if self.expires else None
        return Caller(self.principal, self.role, Scope(tuple(self.adapters)), expires)


class TokenEntry(_Entry):
    """A `[[token]]`."""

    sha256: Annotated[str, AfterValidator(_digest)]
    created: Moment = None


class CertificateEntry(_Entry):
    """A `[[certificate]]`."""

    name: str


class TokensDocument(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: tuple[TokenEntry, ...] = ()
    certificate: tuple[CertificateEntry, ...] = ()


@dataclass(frozen=True)
class Tokens:
    """What a tokens file says, ready to be asked."""

    by_digest: dict[str, Caller]
    by_certificate: dict[str, Caller]

    def find(self, token: str) -> Caller | None:
        """Whose token it is. Every digest is compared, each in constant time, so that time tells nothing."""
        digest = digest_of(token)
        found = None
        for known, caller in self.by_digest.items():
            if hmac.compare_digest(known, digest):
                found = caller
        return found

    def find_certificate(self, names: Iterable[str]) -> Caller | None:
        """Whom the first of a certificate's names that is known belongs to."""
        return next((self.by_certificate[name] for name in names if name in self.by_certificate), None)

    def __contains__(self, caller: Caller) -> bool:
        return caller in self.by_digest.values() or caller in self.by_certificate.values()


def read_document(path: Path) -> TokensDocument:
    """Reads and checks a tokens file. Raises TokensFileError."""
    try:
        with path.open("rb") as file:
            _check_permissions(path, os.fstat(file.fileno()))
            text = file.read().decode()
        if not text.strip():
            # As an editor leaves it for a moment. A file that lets nobody in says so, in a comment.
            raise TokensFileError(f"{path} is empty")
        return TokensDocument.model_validate(tomllib.loads(text))
    except FileNotFoundError:
        raise TokensFileError(
            f"{path} is not there; make it with "
            f"`lyra-adapters tokens new PRINCIPAL --role operate --adapters '*' --tokens-file {path}`"
        ) from None
    except OSError as error:
        raise TokensFileError(f"{path} can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        where = re.search(r"\(at [^()]*\)", str(error))
        raise TokensFileError(f"{path} is no TOML {where[0] if where else ''}".rstrip()) from None
    except ValidationError as error:
        # Without the values: one may be a digest, or a token that was put in its place.
        found = [
            f"{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}"
            for detail in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise TokensFileError(f"{path} is not as it must be: " + "; ".join(found[:5])) from None


def read_tokens(path: Path) -> Tokens:
    """Reads a tokens file to be asked. Raises TokensFileError."""
    document = read_document(path)
    by_digest = {entry.sha256: entry.caller() for entry in document.token}
    by_certificate = {entry.name: entry.caller() for entry in document.certificate}
    if len(by_digest) < len(document.token) or len(by_certificate) < len(document.certificate):
        raise TokensFileError(f"{path} has the same sha256, or the same certificate's name, twice")
    return Tokens(by_digest, by_certificate)


def _check_permissions(path: Path, found: os.stat_result) -> None:
    """Whoever may write the file may let anybody in."""
    mode = stat.S_IMODE(found.st_mode)
    if mode & TOO_OPEN:
        raise TokensFileError(
            f"{path} has permissions {mode:04o}; others may not read or write it, nor its group write it: "
            f"`chmod 600 {path}`"
        )
    if found.st_uid not in (os.geteuid(), 0):
        raise TokensFileError(f"{path} belongs to another user; it must belong to the server's user or to root")
