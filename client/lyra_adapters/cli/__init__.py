"""The command line, `lyra-adapters`. This file needs nothing but the standard library: it says what is missing."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

# What a shell gives for a command that Ctrl-C ended.
INTERRUPTED = 130
SERVER_MAIN = "lyra_adapters_server.service.main"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status (see `exits`)."""
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        # Ctrl-C while packages are still being imported; later each command says what it leaves behind.
        return INTERRUPTED


def _run(args: list[str]) -> int:
    # All of `serve`'s arguments, --help too, are the server's own.
    if args[:1] == ["serve"]:
        return serve(args[1:])
    try:
        app = importlib.import_module("lyra_adapters.cli.app")
    except ModuleNotFoundError as error:
        return missing("cli", error)
    status: int = app.run(args)
    return status


def serve(args: list[str]) -> int:
    """Runs the server. Loaded by name: the client never imports the server."""
    try:
        server = importlib.import_module(SERVER_MAIN)
    except ModuleNotFoundError as error:
        return missing("server", error)
    status: int = server.main(args)
    return status


def missing(extra: str, error: ModuleNotFoundError) -> int:
    """Says which extra to install; an import that no extra brings is a fault and is raised."""
    if (error.name or "").startswith(("lyra_adapters.", "lyra_adapters_server.")):
        raise error
    command = "lyra-adapters serve" if extra == "server" else "The command line"
    print(
        f"{command} needs packages that are not installed ({error.name}).\n"
        f"Install them: pip install 'lyra-adapters[{extra}]'",
        file=sys.stderr,
    )
    return 2
