"""The SDK's real client against a real `lyra-adapters-mcp`, over standard input and output or over HTTP."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import CallToolResult, Implementation

COMMAND = [sys.executable, "-m", "lyra_adapters.mcp"]
WHO = Implementation(name="lyra-desk", version="1.0")


def environment() -> dict[str, str]:
    """This process's, without settings of the project's."""
    return {k: v for k, v in os.environ.items() if not k.startswith("LYRA_ADAPTERS_")}


@asynccontextmanager
async def over_stdio(
    address: str, log: Path, *, command: list[str] | None = None, mode: str = "auto"
) -> AsyncIterator[Client]:
    """A client whose server is started by it; the server's log is kept in a file."""
    first, *rest = command or [*COMMAND, "--server", address]
    parameters = StdioServerParameters(command=first, args=rest, env=environment())
    with log.open("w", encoding="utf-8") as errors:
        async with Client(stdio_client(parameters, errlog=errors), client_info=WHO, mode=mode) as client:
            yield client


@contextmanager
def http_server(address: str, log: Path, *flags: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server on a free loopback port, and where it says it is."""
    command = [*COMMAND, "--http", "127.0.0.1:0", "--server", address, *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment(), encoding="utf-8")
    try:
        assert process.stderr
        said = re.search(r"http://\S+", process.stderr.readline())
        assert said
        yield said[0], process
    finally:
        process.terminate()
        _, rest = process.communicate(timeout=30)
        log.write_text(rest, encoding="utf-8")


@asynccontextmanager
async def over_http(address: str, log: Path, *, mode: str = "auto") -> AsyncIterator[Client]:
    """A client of a server that listens."""
    with http_server(address, log) as (url, _):
        async with Client(url, client_info=WHO, mode=mode) as client:
            yield client


TRANSPORTS = {"stdio": over_stdio, "http": over_http}


async def answer(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """The structured answer of a call that succeeds."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


async def refusal(client: Client, tool: str, **arguments: Any) -> str:
    """What a call that is refused tells the model."""
    result: CallToolResult = await client.call_tool(tool, arguments)
    assert result.is_error
    (block,) = result.content
    assert block.type == "text"
    return block.text
