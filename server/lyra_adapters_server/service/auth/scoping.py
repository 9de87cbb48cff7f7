"""What is outside the caller's scope does not exist: the refusals are those for names that are not there."""

from __future__ import annotations

from lyra_adapters_server.errors import Kind, Refusal
from lyra_adapters_server.registry.names import parse_full_name
from lyra_adapters_server.service.auth.caller import calling


def check_adapter(adapter: str) -> None:
    """Raises Refusal (NOT_FOUND) for a name outside the caller's scope, whether or not there is such an adapter."""
    caller = calling()
    if adapter not in caller.scope:
        raise Refusal(
            Kind.NOT_FOUND,
            "ADAPTER_NOT_FOUND",
            f"There is no adapter {adapter!r} for {caller.principal}, whose adapters are {caller.scope}; Status shows "
            "those there are.",
        )


def in_scope(full_name: str) -> bool:
    """Whether a version's full name is inside; what is no full name is nobody's, so it is."""
    parsed = parse_full_name(full_name)
    return parsed is None or parsed[0] in calling().scope
