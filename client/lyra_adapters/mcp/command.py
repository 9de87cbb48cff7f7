"""The command `lyra-adapters-mcp`: its options, and the transport that they name."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lyra_adapters import __version__
from lyra_adapters.channel import SERVER_VARIABLE, TOKEN_FILE_VARIABLE, TOKEN_VARIABLE, Connection
from lyra_adapters.mcp import logs, web
from lyra_adapters.mcp.server import LyraServer

DESCRIPTION = """\
Gives language models tools to record corrections, train adapters from them, check pairs and roll back, by speaking to
a running `lyra-adapters serve`. Without --http it speaks MCP over standard input and output, as MCP clients start it.
"""


def options() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(prog="lyra-adapters-mcp", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--actor", default="", metavar="NAME", help="who asks, kept with every change. Default: the MCP client's name"
    )
    server = parser.add_argument_group("the service")
    server.add_argument("--server", metavar="HOST:PORT", help=f"default: ${SERVER_VARIABLE}, else 127.0.0.1:50051")
    server.add_argument(
        "--token-file",
        type=Path,
        help=f"file with the bearer token. Default: the token ${TOKEN_VARIABLE}, or the file ${TOKEN_FILE_VARIABLE}",
    )
    server.add_argument("--tls", action="store_true", help="use TLS; implied by the next three")
    server.add_argument("--ca", type=Path, help="root certificates (PEM). Default: $LYRA_ADAPTERS_CA")
    server.add_argument("--cert", type=Path, help="client certificate (PEM). Default: $LYRA_ADAPTERS_CERT")
    server.add_argument("--key", type=Path, help="client key (PEM). Default: $LYRA_ADAPTERS_KEY")
    server.add_argument("--insecure", action="store_true", help="send the token without TLS beyond loopback too")
    listen = parser.add_argument_group("streamable HTTP")
    listen.add_argument(
        "--http",
        nargs="?",
        const=web.DEFAULT_LISTEN,
        metavar="HOST:PORT",
        help=f"listen here instead, path {web.PATH}. Without a value: {web.DEFAULT_LISTEN}. Port 0: any free one",
    )
    listen.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="name by which callers reach this server, HOST or HOST:PORT; repeatable. Needed to listen on an address "
        "that is not loopback: whoever reaches it can train and roll back",
    )
    return parser


def run(argv: list[str]) -> int:
    """Serves until the client leaves (stdio) or a signal comes (HTTP)."""
    parser = options()
    given = parser.parse_args(argv)
    logs.configure()
    try:
        connection = Connection(
            target=given.server,
            token_file=given.token_file,
            tls=given.tls,
            ca=given.ca,
            cert=given.cert,
            key=given.key,
            insecure=given.insecure,
        )
        place = web.Place.parse(given.http, given.allow_host) if given.http else None
    except ValueError as error:
        parser.error(str(error))
    if place is None and given.allow_host:
        parser.error("--allow-host is for --http.")
    server = LyraServer(connection, actor=given.actor)
    try:
        if place is None:
            server.run("stdio")
        else:
            web.serve(server, place)
    except KeyboardInterrupt:
        pass
    except OSError as error:
        if place is None:
            raise
        print(f"lyra-adapters-mcp cannot listen on {given.http}: {error}", file=sys.stderr)
        return 1
    return 0
