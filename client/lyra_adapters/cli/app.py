"""The commands put together. Imported only once it is sure that the extra `cli` is installed."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from lyra_adapters import __version__
from lyra_adapters.cli import run_server
from lyra_adapters.cli.commands import change, download, feedback, look, pull, report, train, use
from lyra_adapters.cli.exits import HELP, Exit

app = typer.Typer(
    name="lyra-adapters",
    help="Train, version, activate and roll back LoRA adapters of an NLI model from corrections.",
    epilog=HELP,
    no_args_is_help=True,
    add_completion=False,
    # Errors are said in words; what is left is a fault, and its traceback should be Python's own.
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before any command."""


# Of the server's package, which is loaded when one is used: what they do, for the list of commands.
OF_THE_SERVER = {
    "serve": "Run the server (extra `server`); `lyra-adapters serve --help` shows its options.",
    "tokens": "Make, list and withdraw the bearer tokens of a server (extra `server`).",
    "doctor": "Check a registry's database, files and links, and mend them with --repair (extra `server`).",
    "backup": "Back a registry up, also while its server runs (extra `server`).",
    "restore": "Restore a backup into an empty home (extra `server`).",
}


def _add_server_command(name: str) -> None:
    @app.command(
        name,
        help=OF_THE_SERVER[name],
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def command(context: typer.Context) -> None:
        raise typer.Exit(run_server(name, context.args))


for server_command in OF_THE_SERVER:
    _add_server_command(server_command)

for group in (train, look, report, change, use, download, pull, feedback):
    group.register(app)


def run(args: list[str]) -> int:
    """Runs one command and returns its exit status."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character is no reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(args=args, prog_name="lyra-adapters")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else Exit.OK if end.code is None else Exit.FAULT
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return Exit.DETACHED
    return Exit.OK
