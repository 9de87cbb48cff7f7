"""The one exception that refuses a caller, whichever layer finds the reason. service/errors.py maps it to gRPC."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What sort of refusal it is; one gRPC status code each."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    DATA_LOSS = "DATA_LOSS"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True)
class Violation:
    """A field that is out of its limits: its path (`samples[17].premise`) and what is wrong."""

    field: str
    description: str


@dataclass
class Refusal(Exception):
    """Refuses a request.

    `reason` is a stable upper-case word; `message` is for the person who reads it: what happened, what it means, what
    to do. Neither may hold a sample's text.
    """

    kind: Kind
    reason: str
    message: str
    violations: list[Violation] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


def invalid(violations: list[Violation], reason: str = "INVALID_FIELD") -> Refusal:
    """A refusal for fields out of their limits; the message holds the first ones."""
    shown = "; ".join(f"{violation.field}: {violation.description}" for violation in violations[:3])
    more = f" (and {len(violations) - 3} more)" if len(violations) > 3 else ""
    return Refusal(Kind.INVALID_ARGUMENT, reason, shown + more, violations=violations)
