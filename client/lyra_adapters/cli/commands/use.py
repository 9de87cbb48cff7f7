"""`classify`: labels from an adapter, for checking it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lyra_adapters.cli import output
from lyra_adapters.cli.context import Context, command
from lyra_adapters.cli.jsonl import Rows, read_pairs
from lyra_adapters.errors import InvalidArgument
from lyra_adapters.models import Classification, Pair

# The server's limit for one request.
PAIRS = 256


def classify(
    context: Context,
    file: Annotated[Path | None, typer.Argument(help="Pairs in JSON Lines; - is standard input.")] = None,
    premise: Annotated[str | None, typer.Option(help="One premise, instead of FILE.")] = None,
    hypothesis: Annotated[str | None, typer.Option(help="One hypothesis, with --premise.")] = None,
    adapter: Annotated[str, typer.Option(help="Default: user_feedback.")] = "",
    version: Annotated[str, typer.Option(metavar="v3|base", help="Default: what is in force.")] = "",
    base_model: Annotated[str, typer.Option(help="For `base`: alias or id. Default: the server's first.")] = "",
) -> None:
    """Label pairs with an adapter, for checking it. With --json one result a line."""
    if (premise is None) != (hypothesis is None) or (file is None) == (premise is None):
        raise typer.BadParameter("Give a FILE, or --premise with --hypothesis.")
    if file is not None:
        rows = read_pairs(file)
    else:
        rows = Rows("command line", [Pair(premise=premise or "", hypothesis=hypothesis or "")], [1])
    shown: list[tuple[Any, ...]] = []
    with context.client() as client:
        for start in range(0, len(rows.rows), PAIRS):
            batch = rows.rows[start : start + PAIRS]
            part = Rows(rows.name, batch, rows.lines[start : start + PAIRS])
            try:
                answer = client.classify(batch, adapter=adapter, version=version, base_model=base_model)
            except InvalidArgument as error:
                raise part.located(error) from None
            for pair, line, result in zip(batch, part.lines, answer.results, strict=True):
                if context.json:
                    output.emit_json({**pair.to_dict(), **result.to_dict(), "version": answer.version, "line": line})
                else:
                    shown.append((line, *_cells(result), pair.hypothesis[:60]))
    if not context.json:
        output.table(("LINE", "LABEL", "SUPPORTS", "REFUTES", "NEUTRAL", "CUT", "HYPOTHESIS"), shown)
        output.say(f"With {answer.version} on {answer.base_model}")


def _cells(result: Classification) -> tuple[str, ...]:
    p = result.probabilities
    return (
        result.label,
        f"{p.supports:.3f}",
        f"{p.refutes:.3f}",
        f"{p.neutral:.3f}",
        "yes" if result.truncated else "",
    )


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    app.command()(command(classify))
