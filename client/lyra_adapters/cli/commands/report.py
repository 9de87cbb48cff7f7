"""`report`: how a version did, row by row; as a page, an image, or lines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lyra_adapters.cli import missing, output
from lyra_adapters.cli.context import Context, command
from lyra_adapters.cli.exits import Exit
from lyra_adapters.cli.report.figures import figures
from lyra_adapters.cli.report.terminal import show
from lyra_adapters.errors import NotFound
from lyra_adapters.models import TrainEvent


def report(
    context: Context,
    adapter: Annotated[str, typer.Argument(metavar="NAME", help="The adapter.")],
    version: Annotated[str, typer.Argument(metavar="[VERSION]", help="v3. Default: what is in force.")] = "",
    html: Annotated[Path | None, typer.Option(help="Write a page that needs no other file.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write the charts as one image.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files.")] = False,
) -> int:
    """Show what a version learnt, what it still gets wrong, and what it broke.

    The report shows the texts of reviews. It is made here, on request, and kept nowhere else.
    """
    for path in (html, png):
        if path is not None and path.exists() and not force:
            raise typer.BadParameter(f"{path} is there already; name another file, or give --force.")
    if html is not None or png is not None:
        try:
            from lyra_adapters.cli.report import charts, page
        except ModuleNotFoundError as error:
            return missing("report", error, "Drawing a report")
    with context.client() as client:
        told = client.report(adapter, version)
        events: list[TrainEvent] = []
        try:
            events = list(client.watch(told.version.job_id))
        except NotFound:
            output.note("The job's events are no longer kept, so there is no curve of the training.")
    found = figures(told, events)
    if html is not None:
        html.write_text(page.page(found), encoding="utf-8")
    if png is not None:
        charts.image(found, png)
    written = [str(path) for path in (html, png) if path is not None]
    if context.json:
        output.emit_json({**told.to_dict(), "written": written})
        return Exit.OK
    show(found)
    for name in written:
        output.say(f"Wrote {name}")
    return Exit.OK


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    app.command()(command(report))
