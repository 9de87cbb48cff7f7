"""The caller of the RPC under way: who it proved to be, its role, and its adapters."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum

from lyra_adapters_server.scope import EVERYTHING, Scope


class Role(IntEnum):
    """What a caller may do; each includes those before it."""

    READ = 1
    TRAIN = 2
    OPERATE = 3

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class Caller:
    """Who calls. `principal` is proven, by a token or a certificate, unlike a request's `actor`."""

    principal: str
    role: Role
    scope: Scope
    # Seconds since the epoch; None: never.
    expires: float | None = None

    @property
    def feedback_owner(self) -> str | None:
        """Whose recorded reviews exist for it (its own); None: everybody's."""
        return None if self.scope.everything else self.principal


# Where nobody is asked who they are, all callers are this one.
ANONYMOUS = Caller("anonymous", Role.OPERATE, EVERYTHING)

# Without a default: code that runs for no admitted caller fails instead of seeing everything.
_CALLING: ContextVar[Caller] = ContextVar("lyra_adapters_caller")


def calling() -> Caller:
    """The caller of the RPC under way. Ask on the event loop: a database's thread does not know it."""
    return _CALLING.get()


def admit(caller: Caller) -> None:
    """Says who calls, for the rest of this RPC."""
    _CALLING.set(caller)
