"""What every tool has: the one channel to the service, and who asks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from lyra_adapters.aio import AsyncAdapterClient

# Where a caller leaves the adapter out, the service takes this one.
DEFAULT_ADAPTER = "user_feedback"
# The word for the bare model.
BASE = "base"
MAX_ACTOR = 200


@dataclass(frozen=True, slots=True)
class App:
    """What lives as long as the process: the client, and who asks unless a call says otherwise."""

    client: AsyncAdapterClient
    actor: str = ""


Ctx: TypeAlias = Context[App, Any]

Adapter = Annotated[str, Field(description=f"The adapter's name. Empty: {DEFAULT_ADAPTER}.")]
Actor = Annotated[str, Field(description="Who asks, kept with the change. Empty: this client's name.")]


def app(ctx: Ctx) -> App:
    """The app of a call."""
    return ctx.request_context.lifespan_context


def client(ctx: Ctx) -> AsyncAdapterClient:
    """The client of a call."""
    return app(ctx).client


def who(ctx: Ctx, given: str) -> str:
    """Who asks: as the call says, else as the command's option says, else the MCP client's name."""
    named = given.strip() or app(ctx).actor
    if not named:
        caller = ctx.session.client_params
        named = caller.client_info.name if caller else "mcp"
    return named[:MAX_ACTOR]


def split_version(adapter: str, version: str) -> tuple[str, str]:
    """Adapter and version from what may be a full name, `user_feedback_v2`.

    Raises:
        ToolError: The full name is another adapter's.
    """
    match = re.fullmatch(r"([a-z][a-z0-9_]*)_(v[0-9]+)", version.strip())
    if not match:
        return adapter, version.strip()
    if adapter and match[1] != adapter:
        raise ToolError(
            f"{version} is a version of {match[1]}, not of {adapter}. Nothing was done. Leave adapter out, or give "
            f"the version of {adapter} that is meant (calibrate_versions lists them)."
        )
    return match[1], match[2]
