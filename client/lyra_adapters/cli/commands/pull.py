"""`pull`: a serving host's directory and engine, kept in step with what is in force."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated

import typer

from lyra_adapters import convert
from lyra_adapters.cli import output
from lyra_adapters.cli.commands.download import FORMATS
from lyra_adapters.cli.context import Context, command, fail
from lyra_adapters.cli.exits import Exit
from lyra_adapters.models import AdapterFormat
from lyra_adapters.pull.engines import LlamaServer, Vllm
from lyra_adapters.pull.hooks import Hook, HookFailed, PostChange, RunCommand
from lyra_adapters.pull.puller import Puller
from lyra_adapters.pull.reports import Report, What
from lyra_adapters.resume import ReconnectPolicy

PANEL = "After each change"


def pull(
    context: Context,
    adapter: Annotated[str, typer.Argument(help="The adapter.")],
    to: Annotated[Path, typer.Option(help="Directory to keep in step; made where it is missing.")],
    follow: Annotated[bool, typer.Option("--follow", help="Go on until stopped, with every change.")] = False,
    format_: Annotated[str, typer.Option("--format", metavar=FORMATS, help="Form of the files.")] = "peft",
    keep: Annotated[
        int | None,
        typer.Option(min=0, help="Keep so many versions beside the one in force, the latest here. Default: all."),
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COMMAND",
            help="Run it, without a shell; LYRA_ADAPTER_ACTIVE, _VERSION, _PATH, … tell what is in force. Repeatable.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    post: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="POST what is in force as JSON. Repeatable.", rich_help_panel=PANEL),
    ] = None,
    vllm: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Load it into vLLM, unload the others. Key: $VLLM_API_KEY.", rich_help_panel=PANEL
        ),
    ] = None,
    llama_server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Set the scales of llama-server's adapters. Key: $LLAMA_API_KEY.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    engine_dir: Annotated[
        Path | None,
        typer.Option(help="The directory as the engine sees it, if otherwise (a container).", rich_help_panel=PANEL),
    ] = None,
    hook_timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds for a command or call.", rich_help_panel=PANEL)
    ] = 600.0,
) -> Exit | None:
    """Keep DIR in step with what is in force: whole versions, and a link NAME to the one in force (none for base)."""
    try:
        hooks: list[Hook] = [RunCommand(words, timeout=hook_timeout) for words in run or ()]
        hooks += [PostChange(url, timeout=hook_timeout) for url in post or ()]
        for kind, url, key in ((Vllm, vllm, "VLLM_API_KEY"), (LlamaServer, llama_server, "LLAMA_API_KEY")):
            if url is not None:
                key = os.environ.get(key, "")
                hooks.append(kind(url, directory=engine_dir, key=key, timeout=hook_timeout))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    # Following begins anew at what is in force after every break; it does not take a stream up again.
    reconnect = ReconnectPolicy(give_up_after=0) if follow else None
    with context.client(reconnect=reconnect) as client:
        puller = Puller(
            client,
            adapter,
            to,
            format=convert.word(AdapterFormat, format_, "format"),
            keep=keep,
            hooks=hooks,
            tell=_as_json if context.json else _in_words,
        )
        try:
            if not follow:
                puller.once()
                return None
            interrupted = False

            def end(number: int, _frame: object) -> None:
                nonlocal interrupted
                interrupted = number == signal.SIGINT
                puller.stop()

            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, end)
            puller.follow()
            return Exit.DETACHED if interrupted else None
        except HookFailed as error:
            fail(f"{error}. The directory is in step; the next pull tries this again.", Exit.FAULT)
        except OSError as error:
            fail(f"{error.filename or to}: {error.strerror or error}. What was in force here still is.", Exit.FAULT)
    return None


def _as_json(report: Report) -> None:
    output.emit_json(report.to_dict())


def _in_words(report: Report) -> None:
    if report.what in (What.FAILED, What.HOOK_FAILED):
        output.note(f"Error: {report.message}")
    else:
        output.say(report.message)


def register(app: typer.Typer) -> None:
    """Adds the command of this file."""
    app.command()(command(pull))
