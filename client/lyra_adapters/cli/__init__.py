"""The command line, `lyra-adapters`. This file needs nothing but the standard library: it says what is missing."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

# What a shell gives for a command that Ctrl-C ended.
INTERRUPTED = 130
# Commands of the server's package: module and function.
SERVER_COMMANDS = {
    "serve": ("lyra_adapters_server.service.main", "main"),
    "tokens": ("lyra_adapters_server.service.auth.command", "main"),
    "doctor": ("lyra_adapters_server.maintenance.commands", "doctor"),
    "backup": ("lyra_adapters_server.maintenance.commands", "backup"),
    "restore": ("lyra_adapters_server.maintenance.commands", "restore_command"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status (see `exits`)."""
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        # Ctrl-C while packages are still being imported; later each command says what it leaves behind.
        return INTERRUPTED


def _run(args: list[str]) -> int:
    # All of these commands' arguments, --help too, are the server's own.
    if args and args[0] in SERVER_COMMANDS:
        return run_server(args[0], args[1:])
    try:
        app = importlib.import_module("lyra_adapters.cli.app")
    except ModuleNotFoundError as error:
        return missing("cli", error)
    status: int = app.run(args)
    return status


def run_server(command: str, args: list[str]) -> int:
    """Runs a command of the server's package. Loaded by name: the client never imports the server."""
    module, function = SERVER_COMMANDS[command]
    try:
        server = importlib.import_module(module)
    except ModuleNotFoundError as error:
        return missing("server", error, f"lyra-adapters {command}")
    status: int = getattr(server, function)(args)
    return status


def missing(extra: str, error: ModuleNotFoundError, command: str = "The command line") -> int:
    """Says which extra to install; an import that no extra brings is a fault and is raised."""
    if (error.name or "").startswith(("lyra_adapters.", "lyra_adapters_server.")):
        raise error
    print(
        f"{command} needs packages that are not installed ({error.name}).\n"
        f"Install them: pip install 'lyra-adapters[{extra}]'",
        file=sys.stderr,
    )
    return 2
