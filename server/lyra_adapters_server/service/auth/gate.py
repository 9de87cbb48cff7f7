"""Lets an RPC in or refuses it: who calls, and whether its role suffices. Before a byte of the request is read."""

from __future__ import annotations

from lyra_adapters_server.errors import Kind, Refusal
from lyra_adapters_server.service.auth import caller as callers
from lyra_adapters_server.service.auth.authority import Authority, Context
from lyra_adapters_server.service.auth.caller import Caller
from lyra_adapters_server.service.auth.roles import role_of


class Gate:
    """Stands before every RPC but health."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    def authenticate(self, context: Context) -> Caller:
        """Who calls. Raises Refusal (UNAUTHENTICATED)."""
        return self._authority.authenticate(context)

    def admit(self, method: str, caller: Caller) -> None:
        """Lets the caller in, for the rest of this RPC. Raises Refusal (PERMISSION_DENIED)."""
        needed = role_of(method)
        name = method.rpartition("/")[2]
        if needed is None:
            raise Refusal(
                Kind.PERMISSION_DENIED, "RPC_NOT_DECLARED", f"{name} has no role declared, so nobody may call it."
            )
        if caller.role < needed:
            raise Refusal(
                Kind.PERMISSION_DENIED,
                "ROLE_TOO_LOW",
                f"{name} needs the role {needed}, and {caller.principal} has {caller.role}; ask the server's operator "
                "for a token with that role.",
                metadata={"role": str(caller.role), "needed": str(needed)},
            )
        callers.admit(caller)

    def check_still(self, caller: Caller) -> None:
        """Raises Refusal (UNAUTHENTICATED) once a caller whose stream goes on would not be let in again."""
        if not self._authority.holds(caller):
            raise Refusal(
                Kind.UNAUTHENTICATED,
                "ACCESS_ENDED",
                "The credentials of this stream have expired or were withdrawn; come back with new ones.",
            )
