"""`lyra-adapters tokens`: makes, lists and withdraws tokens in a tokens file.

The file is a person's too: entries are added and removed as text, and its comments and the rest stay as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lyra_adapters_server.config import ENV_PREFIX
from lyra_adapters_server.service.auth.caller import Role
from lyra_adapters_server.service.auth.tokens import (
    TokenEntry,
    TokensDocument,
    TokensFileError,
    digest_of,
    new_token,
    read_document,
)

VARIABLE = ENV_PREFIX + "TOKENS_FILE"
# Enough of a digest to tell tokens apart.
ID_LENGTH = 8
_EXPIRY = re.compile(r"([1-9][0-9]{0,4})([dh])", re.ASCII)
_HEADER = re.compile(r"^\s*\[", re.MULTILINE)


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    parser = _parser()
    given = parser.parse_args(argv)
    path = given.tokens_file or os.environ.get(VARIABLE)
    if not path:
        parser.error(f"which file? Give --tokens-file, or set {VARIABLE}")
    try:
        given.run(Path(path).expanduser(), given)
    except TokensFileError as error:
        print(f"lyra-adapters tokens: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"lyra-adapters tokens: {error.filename or path}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lyra-adapters tokens", description="Who may call a server: makes, lists and withdraws bearer tokens."
    )
    commands = parser.add_subparsers(required=True, metavar="new|list|revoke")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--tokens-file",
        metavar="FILE",
        help=f"the server's tokens_file; default: ${VARIABLE}. A running server sees changes",
    )
    shared.add_argument("--json", action="store_true", help="print JSON")

    new = commands.add_parser("new", parents=[shared], help="make a token, print it once, and keep its digest")
    new.add_argument("principal", help="who it is for; several tokens may be for the same")
    new.add_argument(
        "--role", required=True, choices=[str(role) for role in Role], help="each includes those before it"
    )
    new.add_argument(
        "--adapters",
        required=True,
        action="append",
        metavar="PATTERN",
        help="adapters it is for, such as 'team_a_*'; '*' is all of them. Repeatable",
    )
    new.add_argument("--expires", metavar="WHEN", help="90d, 12h, or a time as in 2027-01-01T00:00:00Z. Default: never")
    new.set_defaults(run=_new)

    listing = commands.add_parser("list", parents=[shared], help="show who may call; tokens themselves are not kept")
    listing.set_defaults(run=_list)

    revoke = commands.add_parser("revoke", parents=[shared], help="withdraw tokens")
    revoke.add_argument("which", help="a token's id, as `list` shows it, or a principal: all of its tokens")
    revoke.set_defaults(run=_revoke)
    return parser


def _new(path: Path, given: argparse.Namespace) -> None:
    token = new_token()
    now = datetime.now(UTC).replace(microsecond=0)
    try:
        entry = TokenEntry(
            principal=given.principal,
            role=given.role,
            adapters=given.adapters,
            sha256=digest_of(token),
            created=now,
            expires=_expiry(given.expires, now),
        )
    except ValidationError as error:
        detail = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise TokensFileError(f"{detail['loc'][0]}: {detail['msg'].removeprefix('Value error, ')}") from None
    if path.exists() and path.stat().st_size:
        # What can't be read as it stands would not let the new token in either.
        read_document(path)
    _append(path, _as_toml(entry))
    if given.json:
        print(json.dumps({"token": token, **_described(entry)}))
        return
    print(token)
    until = f" until {entry.expires:%Y-%m-%d %H:%M %Z}" if entry.expires else ""
    print(
        f"For {entry.principal}: may {entry.role}, adapters {', '.join(entry.adapters)}{until}. It is not shown again; "
        f"its digest is in {path}.",
        file=sys.stderr,
    )


def _list(path: Path, given: argparse.Namespace) -> None:
    document = read_document(path)
    if given.json:
        print(json.dumps([_described(entry) for entry in document.token]))
        return
    rows = [("ID", "PRINCIPAL", "ROLE", "ADAPTERS", "CREATED", "EXPIRES")]
    rows += [
        (
            entry.sha256[:ID_LENGTH],
            entry.principal,
            str(entry.role),
            ",".join(entry.adapters),
            f"{entry.created:%Y-%m-%d}" if entry.created else "-",
            f"{entry.expires:%Y-%m-%d %H:%M %Z}" if entry.expires else "never",
        )
        for entry in document.token
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for entry in document.certificate:
        print(f"certificate {entry.name}: {entry.principal}, {entry.role}, {','.join(entry.adapters)}")


def _revoke(path: Path, given: argparse.Namespace) -> None:
    document = read_document(path)
    gone = [entry for entry in document.token if given.which in (entry.principal, entry.sha256[:ID_LENGTH])]
    if not gone:
        raise TokensFileError(
            f"{path} has no token with the id or principal {given.which!r}; `list` shows those there are"
        )
    text = path.read_text(encoding="utf-8")
    for entry in gone:
        text = _without(text, entry.sha256)
    text = text if text.strip() else "# Nobody may call.\n"
    left = TokensDocument(token=tuple(e for e in document.token if e not in gone), certificate=document.certificate)
    _replace(path, text, left)
    if given.json:
        print(json.dumps([_described(entry) for entry in gone]))
    else:
        print(f"Withdrawn: {', '.join(f'{entry.sha256[:ID_LENGTH]} ({entry.principal})' for entry in gone)}")


def _described(entry: TokenEntry) -> dict[str, Any]:
    return {
        "id": entry.sha256[:ID_LENGTH],
        "principal": entry.principal,
        "role": str(entry.role),
        "adapters": entry.adapters,
        "created": entry.created.isoformat() if entry.created else None,
        "expires": entry.expires.isoformat() if entry.expires else None,
    }


def _expiry(text: str | None, now: datetime) -> datetime | None:
    """Raises TokensFileError for what is no time to come."""
    if text is None:
        return None
    if match := _EXPIRY.fullmatch(text):
        unit = "days" if match[2] == "d" else "hours"
        return now + timedelta(**{unit: int(match[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or moment <= now:
        raise TokensFileError(f"--expires {text}: give 90d, 12h, or a time to come as in 2027-01-01T00:00:00Z")
    return moment.astimezone(UTC).replace(microsecond=0)


def _as_toml(entry: TokenEntry) -> str:
    # What a TokenEntry holds needs no escaping, and JSON's strings and lists are TOML's.
    lines = [
        "[[token]]",
        f"principal = {json.dumps(entry.principal)}",
        f'role = "{entry.role}"',
        f"adapters = {json.dumps(entry.adapters)}",
        f'sha256 = "{entry.sha256}"',
        f"created = {_toml_time(entry.created)}",
    ]
    if entry.expires:
        lines.append(f"expires = {_toml_time(entry.expires)}")
    return "\n".join(lines) + "\n"


def _toml_time(moment: datetime | None) -> str:
    assert moment is not None
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _append(path: Path, entry: str) -> None:
    """Adds an entry with one write, so that a server which reads meanwhile finds all of it or none."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        before = file.read()
        gap = "" if not before else "\n" if before.endswith(b"\n") else "\n\n"
        file.write((gap + entry).encode())
        os.fsync(file.fileno())


def _without(text: str, digest: str) -> str:
    """The text without the table that holds a digest: from its header to the next one's, or to the end."""
    at = text.lower().index(digest)
    start = max(match.start() for match in _HEADER.finditer(text, 0, at))
    following = _HEADER.search(text, at)
    return text[:start] + (text[following.start() :].lstrip("\n") if following else "")


def _replace(path: Path, text: str, expected: TokensDocument) -> None:
    """Replaces the file, keeping owner and permissions. Raises TokensFileError if the text is not what is expected."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    found = path.stat()
    try:
        with os.fdopen(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
                os.chown(fresh, found.st_uid, found.st_gid)
            fresh.chmod(found.st_mode & 0o777)
            os.fsync(file.fileno())
        if read_document(fresh) != expected:
            raise TokensFileError(f"{path} is written in a way that is not understood; remove the [[token]] by hand")
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
