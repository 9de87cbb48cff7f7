"""Page tokens (AIP-158): opaque, and good only for the listing and the filters they were made for."""

from __future__ import annotations

import base64
import hashlib
import json

from google.protobuf.message import Message

from lyra_adapters_server.errors import Violation, invalid

DEFAULT_SIZE = 100
MAX_SIZE = 1000


def page_size(asked: int) -> int:
    """Rows per page. Raises Refusal for a negative size."""
    if asked < 0:
        raise invalid([Violation("page_size", "must not be negative; 0 takes 100")])
    return min(asked or DEFAULT_SIZE, MAX_SIZE)


def make_token(request: Message, before: int) -> str:
    """The token of the page that begins below `before`."""
    content = json.dumps([_filters(request), before]).encode()
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def read_token(request: Message) -> int | None:
    """Where the page begins; None for the first. Raises Refusal for a token that is not of this listing."""
    token: str = request.page_token  # type: ignore[attr-defined]  # every List request has it
    if not token:
        return None
    try:
        filters, before = json.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
        if filters == _filters(request) and type(before) is int and 0 <= before < 2**62:
            return before
    except (ValueError, TypeError):
        pass
    raise invalid(
        [
            Violation(
                "page_token",
                "is not a token of this listing; pass next_page_token as it came, with the other fields unchanged",
            )
        ]
    )


def _filters(request: Message) -> str:
    """Digest of the listing and its filters; the page's size may change between pages."""
    bare = type(request)()
    bare.CopyFrom(request)
    bare.ClearField("page_token")
    bare.ClearField("page_size")
    content = type(request).DESCRIPTOR.full_name.encode() + b"\0" + bare.SerializeToString(deterministic=True)
    return hashlib.sha256(content).hexdigest()[:16]
