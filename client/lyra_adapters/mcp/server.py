"""The MCP server: its tools, and how their errors reach a model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.types import CallToolResult, InputRequiredResult, ToolAnnotations
from pydantic import ValidationError

from lyra_adapters import __version__
from lyra_adapters.aio import AsyncAdapterClient
from lyra_adapters.channel import Connection
from lyra_adapters.errors import AdapterError
from lyra_adapters.mcp import advice
from lyra_adapters.mcp.app import App
from lyra_adapters.mcp.calibrating import calibrate, calibrate_cancel, calibrate_status, calibrate_wait
from lyra_adapters.mcp.reviewing import classify_pairs, record_feedback
from lyra_adapters.mcp.versions import calibrate_rollback, calibrate_versions
from lyra_adapters.resume import ReconnectPolicy

# A model waits for each answer: a service that is not there is said to be so within seconds.
CONNECT_WITHIN = 8.0

INSTRUCTIONS = (
    "An NLI model judges whether a premise SUPPORTS, REFUTES or is NEUTRAL to a hypothesis. Where it errs, users "
    "correct it, and from the corrections an adapter is trained. Record each review with record_feedback. When "
    "training is due, calibrate starts it and returns a job; repeat calibrate_wait until `finished`. A new version "
    "goes in force only if it stands up to the one in force on rows held out. Check with classify_pairs; "
    "calibrate_rollback takes a version back at once. What is in force changes the predictions of every task that uses "
    "the adapter: ask the user before calibrate with force and before calibrate_rollback."
)


def _hints(title: str, **hints: bool) -> ToolAnnotations:
    return ToolAnnotations.model_validate({"title": title, "open_world_hint": False, **hints}, by_name=True)


READS = {"read_only_hint": True, "destructive_hint": False, "idempotent_hint": True}
# Not idempotent: each call is another job, or one more step back, unless it says which.
TOOLS = (
    (record_feedback, _hints("Record reviews", read_only_hint=False, destructive_hint=False, idempotent_hint=True)),
    # Destructive: what it trains may take the place of what is in force.
    (calibrate, _hints("Train from reviews", read_only_hint=False, destructive_hint=True, idempotent_hint=False)),
    (calibrate_status, _hints("Status of a job or the service", **READS)),
    (calibrate_wait, _hints("Wait for a job", **READS)),
    (calibrate_cancel, _hints("Cancel a job", read_only_hint=False, destructive_hint=True, idempotent_hint=True)),
    (calibrate_versions, _hints("List versions", **READS)),
    (calibrate_rollback, _hints("Roll back", read_only_hint=False, destructive_hint=True, idempotent_hint=False)),
    (classify_pairs, _hints("Classify pairs", **READS)),
)


class LyraServer(MCPServer[App]):
    """The tools over one channel to one service.

    Args:
        connection: Where the service is.
        actor: Who asks, unless a call says otherwise. Empty: the MCP client's name.
    """

    def __init__(self, connection: Connection, actor: str = "") -> None:
        self._connection = connection
        self._actor = actor
        super().__init__(
            "lyra-adapters",
            title="Lyra adapters",
            version=__version__,
            instructions=INSTRUCTIONS,
            log_level="WARNING",
            lifespan=self._open,
        )
        for function, hints in TOOLS:
            self.add_tool(function, title=hints.title, annotations=hints, structured_output=True)

    @asynccontextmanager
    async def _open(self, _: MCPServer[App]) -> AsyncIterator[App]:
        c = self._connection
        async with AsyncAdapterClient(
            c.target,
            token=c.token,
            token_file=c.token_file,
            tls=c.tls,
            ca=c.ca,
            cert=c.cert,
            key=c.key,
            insecure=c.insecure,
            reconnect=ReconnectPolicy(connect_within=CONNECT_WITHIN),
        ) as client:
            yield App(client, self._actor)

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[App, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Calls a tool; what it refuses reaches the model in words that it can act on."""
        known = self._arguments(name)
        if known is not None and (unknown := [argument for argument in arguments if argument not in known]):
            raise ToolError(advice.unknown_arguments(name, unknown, known))
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            cause = error.__cause__
            if isinstance(cause, AdapterError):
                raise ToolError(advice.explain(cause, self._connection.address)) from None
            if isinstance(cause, ValidationError) and not isinstance(error, UnexpectedToolError):
                raise ToolError(advice.refused_arguments(name, cause)) from None
            if isinstance(cause, ToolError) and not isinstance(error, UnexpectedToolError):
                raise cause from None
            raise

    def _arguments(self, name: str) -> list[str] | None:
        schema = self._tool_input_schema(name)
        return None if schema is None else list(schema.get("properties", {}))
