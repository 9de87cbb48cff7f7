"""`download`: a version's files, once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from lyra_adapters.cli import output
from lyra_adapters.cli.context import Context, command, fail
from lyra_adapters.cli.exits import Exit
from lyra_adapters.models import AdapterFormat

FORMATS = "|".join(form.lower() for form in AdapterFormat if form is not AdapterFormat.UNSPECIFIED)


def download(
    context: Context,
    adapter: Annotated[str, typer.Argument(help="The adapter.")],
    to: Annotated[Path, typer.Option(help="Directory for the files; made where it is missing.")],
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Default: what is in force.")] = "",
    version_option: Annotated[str, typer.Option("--version", hidden=True)] = "",
    format_: Annotated[str, typer.Option("--format", metavar=FORMATS, help="Form of the files.")] = "peft",
    archive: Annotated[bool, typer.Option("--archive", help="All files as one tar.")] = False,
    file: Annotated[str, typer.Option(help="Only this file.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that have other content.")] = False,
    keep_partial: Annotated[
        bool, typer.Option("--keep-partial", help="If it breaks, keep what came; the next call goes on from there.")
    ] = False,
) -> None:
    """Fetch a version's files, each checked against its digest; all of them appear, or none."""
    if version and version_option:
        raise typer.BadParameter("Give the version once.")
    if archive and file:
        raise typer.BadParameter("Give --archive or --file, one of the two.")
    with context.client() as client, _bar() as on_progress:
        try:
            done = client.download(
                adapter,
                to,
                version=version or version_option,
                format=format_,
                file=file,
                archive=archive,
                overwrite=overwrite,
                keep_partial=keep_partial,
                on_progress=on_progress,
            )
        except OSError as error:
            fail(f"{error.filename or to}: {error.strerror or error}. Nothing was left there.", Exit.FAULT)
    if context.json:
        output.emit_json(done.to_dict())
    else:
        output.table(("FILE", "SIZE", "SHA256"), [(f.path, output.size(f.size_bytes), f.sha256) for f in done.files])
        output.say(f"{done.adapter}_{done.version} in {done.directory}")


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("")
        yield lambda have, whole: bar.update(task, completed=have, total=whole)


def register(app: typer.Typer) -> None:
    """Adds the command of this file."""
    app.command()(command(download))
