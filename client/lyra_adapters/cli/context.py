"""What every command has: how to reach the server, and whether to print JSON; and how errors end a command."""

from __future__ import annotations

import functools
import getpass
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from lyra_adapters.channel import Connection
from lyra_adapters.cli import output
from lyra_adapters.cli.advice import explain
from lyra_adapters.cli.exits import Exit, of_error
from lyra_adapters.client import AdapterClient
from lyra_adapters.errors import AdapterError
from lyra_adapters.resume import Reconnect, ReconnectPolicy

# A person waits: a server that is not there is said to be so within seconds.
CONNECT_WITHIN = 8.0


@dataclass(frozen=True, slots=True)
class Context:
    """The options that every command has."""

    connection: Connection
    json: bool

    def client(
        self,
        on_reconnect: Callable[[Reconnect], None] | None = None,
        *,
        reconnect: ReconnectPolicy | None = None,
    ) -> AdapterClient:
        """A client for the server that the options name."""
        c = self.connection
        return AdapterClient(
            c.target,
            token=c.token,
            token_file=c.token_file,
            tls=c.tls,
            ca=c.ca,
            cert=c.cert,
            key=c.key,
            insecure=c.insecure,
            reconnect=reconnect or ReconnectPolicy(connect_within=CONNECT_WITHIN),
            on_reconnect=on_reconnect,
        )

    def hint(self, command: str) -> str:
        """A command to suggest, with the server where it was named."""
        server = f" --server {self.connection.target}" if self.connection.target else ""
        return f"lyra-adapters {command}{server}"


PANEL = "Server"
OPTIONS: dict[str, Any] = {
    "server": Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="HOST:PORT",
            help="Default: $LYRA_ADAPTERS_SERVER, else 127.0.0.1:50051.",
            rich_help_panel=PANEL,
        ),
    ],
    "token": Annotated[
        str | None,
        typer.Option(
            "--token",
            help="Bearer token; others on this machine can see arguments. Default: $LYRA_ADAPTERS_TOKEN.",
            rich_help_panel=PANEL,
        ),
    ],
    "token_file": Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            help="File with the bearer token. Default: $LYRA_ADAPTERS_TOKEN_FILE.",
            rich_help_panel=PANEL,
        ),
    ],
    "tls": Annotated[bool, typer.Option("--tls", help="Use TLS; implied by the next three.", rich_help_panel=PANEL)],
    "ca": Annotated[
        Path | None,
        typer.Option("--ca", help="Root certificates (PEM). Default: $LYRA_ADAPTERS_CA.", rich_help_panel=PANEL),
    ],
    "cert": Annotated[
        Path | None,
        typer.Option("--cert", help="Client certificate (PEM). Default: $LYRA_ADAPTERS_CERT.", rich_help_panel=PANEL),
    ],
    "key": Annotated[
        Path | None, typer.Option("--key", help="Client key (PEM). Default: $LYRA_ADAPTERS_KEY.", rich_help_panel=PANEL)
    ],
    "insecure": Annotated[
        bool,
        typer.Option("--insecure", help="Send the token without TLS beyond loopback too.", rich_help_panel=PANEL),
    ],
    "as_json": Annotated[
        bool,
        typer.Option("--json", help="Print JSON: one object, or one event a line for streams.", rich_help_panel=PANEL),
    ],
}


def command(function: Callable[..., Any]) -> Callable[..., None]:
    """Gives a command the options of every command and turns errors into messages and exit codes.

    Args:
        function: Takes a Context first, then its own options; returns an exit code or None.
    """

    @functools.wraps(function)
    def run(**options: Any) -> None:
        shared = {name: options.pop(name) for name in OPTIONS}
        try:
            connection = Connection(
                target=shared["server"],
                token=shared["token"],
                token_file=shared["token_file"],
                tls=shared["tls"],
                ca=shared["ca"],
                cert=shared["cert"],
                key=shared["key"],
                insecure=shared["insecure"],
            )
        except ValueError as error:
            fail(str(error), Exit.USAGE)
        context = Context(connection, shared["as_json"])
        with ending(context):
            raise typer.Exit(function(context, **options) or Exit.OK)

    hints = get_type_hints(function, include_extras=True)
    own = [
        parameter.replace(annotation=hints[parameter.name])
        for parameter in list(inspect.signature(function).parameters.values())[1:]
    ]
    shared = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=False if name in ("tls", "insecure", "as_json") else None,
            annotation=annotation,
        )
        for name, annotation in OPTIONS.items()
    ]
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    # Typer reads options from the signature.
    run.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]  # Typer reads it
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *shared]}
    del run.__wrapped__
    return run


@contextmanager
def ending(context: Context) -> Iterator[None]:
    """Ends a command that failed: a message on stderr and an exit code, never a traceback."""
    try:
        yield
    except AdapterError as error:
        output.note(
            output.as_json(error.to_dict()) if context.json else str(explain(error, context.connection.address))
        )
        raise typer.Exit(of_error(error)) from None
    except BrokenPipeError:
        # The reader has enough (`… | head`). Python would complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(Exit.OK) from None
    except OSError as error:
        fail(f"{error.filename or 'File'}: {error.strerror or error}", Exit.USAGE)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.DETACHED) from None


def fail(message: str, code: Exit) -> Any:
    """Ends the command with a message."""
    output.note(f"Error: {message}")
    raise typer.Exit(code)


def whoami(actor: str | None) -> str:
    """Who acts: as given, else the user's name, so that histories are not anonymous."""
    if actor is not None:
        return actor
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return ""
