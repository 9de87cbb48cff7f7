"""`rollback`, `activate`, `cancel` and `delete`: what changes something."""

from __future__ import annotations

from typing import Annotated

import typer

from lyra_adapters.cli import output
from lyra_adapters.cli.context import Context, command, whoami
from lyra_adapters.models import PointerMove

Actor = Annotated[str | None, typer.Option("--actor", help="Who asks; kept. Default: your user name.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept.")]
Expected = Annotated[
    str, typer.Option("--expected-active", help="Only if this is in force (v3 or base); else nothing changes.")
]
RequestId = Annotated[str | None, typer.Option("--request-id", help="UUID that makes repeating harmless.")]


def rollback(
    context: Context,
    adapter: Annotated[str, typer.Argument(metavar="[ADAPTER]", help="Default: user_feedback.")] = "",
    task_id: Annotated[str, typer.Option(help="The adapter that this task trained, instead of ADAPTER.")] = "",
    to: Annotated[str, typer.Option(metavar="v2|base", help="Default: one step back.")] = "",
    reason: Reason = "",
    expected_active: Expected = "",
    actor: Actor = None,
    request_id: RequestId = None,
) -> None:
    """Take back what is in force: one step, to an earlier version, or to the bare base model."""
    if adapter and task_id:
        raise typer.BadParameter("Give ADAPTER or --task-id, one of the two.")
    with context.client() as client:
        move = client.rollback(
            adapter or ("" if task_id else "user_feedback"),
            task_id=task_id,
            to_version=to,
            reason=reason,
            expected_active=expected_active,
            actor=whoami(actor),
            request_id=request_id,
        )
    _moved(context, move)


def activate(
    context: Context,
    adapter: Annotated[str, typer.Argument(help="The adapter.")],
    version: Annotated[str, typer.Argument(help="The version, v3.")],
    reason: Reason = "",
    expected_active: Expected = "",
    allow_rejected: Annotated[
        bool, typer.Option("--allow-rejected", help="Also a version that the gate rejected.")
    ] = False,
    actor: Actor = None,
    request_id: RequestId = None,
) -> None:
    """Put a version in force."""
    with context.client() as client:
        move = client.activate(
            adapter,
            version,
            reason=reason,
            expected_active=expected_active,
            allow_rejected=allow_rejected,
            actor=whoami(actor),
            request_id=request_id,
        )
    _moved(context, move)


def cancel(
    context: Context,
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")],
    reason: Reason = "",
    actor: Actor = None,
) -> None:
    """Stop a job; its partial work is not published."""
    with context.client() as client:
        job = client.cancel(job_id, reason=reason, actor=whoami(actor))
    if context.json:
        output.emit_json(job.to_dict())
    else:
        output.say(f"Job {job.job_id}: {job.state}{', being cancelled' if job.end_time is None else ''}")


def delete(
    context: Context,
    adapter: Annotated[str, typer.Argument(help="The adapter.")],
    version: Annotated[str, typer.Argument(help="The version, v3.")],
    reason: Reason = "",
    actor: Actor = None,
) -> None:
    """Delete the files of a version that is not in force; its scores and lineage stay."""
    with context.client() as client:
        deleted = client.delete_version(adapter, version, reason=reason, actor=whoami(actor))
    if context.json:
        output.emit_json(deleted.to_dict())
    elif deleted.changed:
        output.say(f"{deleted.version.name}: deleted, {output.size(deleted.version.size_bytes)} freed")
    else:
        output.say(f"{deleted.version.name}: had been deleted already; nothing changed")


def _moved(context: Context, move: PointerMove) -> None:
    change = move.change
    if context.json:
        output.emit_json(move.to_dict())
    elif move.changed:
        output.say(f"{change.adapter}: {change.active} is in force (was {change.previous})", "green")
    else:
        output.say(f"{change.adapter}: {change.active} is in force already; nothing changed")


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    for function in (rollback, activate, cancel, delete):
        app.command()(command(function))
