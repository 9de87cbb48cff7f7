"""Checks of single fields; each finding names the field's path and the limit."""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Collection

from google.protobuf.message import Message

from lyra_adapters_server.errors import Violation, invalid
from lyra_adapters_server.feedback.domains import domain_key
from lyra_adapters_server.registry.names import ADAPTER_RULE, is_adapter_name


def content_digest(request: Message) -> str:
    """Digest of what a request asks, without its request id: what a retry repeats."""
    bare = type(request)()
    bare.CopyFrom(request)
    bare.ClearField("request_id")
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


class Findings:
    """Collects what is wrong with a request, so that the caller learns of it all at once."""

    # A request of 20,000 bad rows is told by its first ones.
    ENOUGH = 50

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    @property
    def full(self) -> bool:
        """Whether there are enough findings to stop looking."""
        return len(self.violations) >= self.ENOUGH

    def add(self, field: str, description: str) -> None:
        """Notes a finding."""
        self.violations.append(Violation(field, description))

    def raise_if_any(self) -> None:
        """Raises Refusal if anything was found."""
        if self.violations:
            raise invalid(self.violations)

    def text(self, field: str, value: str, limit: int, *, required: bool = False) -> None:
        """A text of at most `limit` characters, not blank where it is required, and without NUL."""
        if required and not value.strip():
            self.add(field, f"is required: 1 to {limit:,} characters, not only white space")
        elif len(value) > limit:
            self.add(field, f"has {len(value):,} characters; at most {limit:,} are allowed")
        elif "\0" in value:
            self.add(field, "holds a NUL character, which is not allowed")

    def domain(self, field: str, value: str, limit: int) -> None:
        """A domain, or nothing; not what nobody can see."""
        self.text(field, value, limit)
        if value and len(value) <= limit and not domain_key(value):
            self.add(field, "holds nothing but white space or invisible characters; leave it empty to name no domain")

    def number(
        self,
        field: str,
        value: float,
        low: float,
        high: float,
        *,
        above: bool = False,
        below: bool = False,
    ) -> None:
        """A finite number from `low` to `high`; with `above`/`below` the bound itself is out."""
        inside = (value > low if above else value >= low) and (value < high if below else value <= high)
        if not math.isfinite(value) or not inside:
            start = "above" if above else "from"
            end = "below" if below else "at most"
            self.add(field, f"is {value:g}; must be {start} {low:g} and {end} {high:g}")

    def adapter(self, field: str, name: str) -> None:
        """An adapter's name."""
        if not is_adapter_name(name):
            shown = name if len(name) <= 80 else name[:80] + "…"
            self.add(field, f"{shown!r} is no adapter name; must be {ADAPTER_RULE}")

    def uuid(self, field: str, value: str) -> None:
        """A UUID in its usual form, or empty."""
        if value:
            try:
                if str(uuid.UUID(value)) == value.lower():
                    return
            except ValueError:
                pass
            self.add(field, "is no UUID; must be like 123e4567-e89b-42d3-a456-426614174000")

    def known(self, field: str, value: int, known: Collection[int], names: str) -> None:
        """One of an enum's numbers (proto3 lets others through)."""
        if value not in known:
            self.add(field, f"is {value}, which is none of {names}")
