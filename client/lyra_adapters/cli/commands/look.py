"""`status`, `list` and `jobs`: what there is."""

from __future__ import annotations

from typing import Annotated

import typer

from lyra_adapters.cli import output
from lyra_adapters.cli.context import Context, command
from lyra_adapters.cli.live import scores, speed, verdict
from lyra_adapters.cli.visible import one_line
from lyra_adapters.models import Job, JobState, Metrics, PointerChange, ServiceStatus


def status(
    context: Context, job_id: Annotated[str | None, typer.Argument(metavar="[JOB]", help="A job's id.")] = None
) -> None:
    """Show the state of the service, or of one job."""
    with context.client() as client:
        if job_id is not None:
            job = client.job(job_id)
            output.emit_json(job.to_dict()) if context.json else _job(job)
        else:
            service = client.status()
            output.emit_json(service.to_dict()) if context.json else _service(service)


def list_(
    context: Context,
    adapter: Annotated[str, typer.Argument(metavar="[ADAPTER]", help="Only this adapter's versions.")] = "",
    history: Annotated[bool, typer.Option("--history", help="Also every change of what is in force.")] = False,
    state: Annotated[list[str] | None, typer.Option(help="Only versions in this state; repeatable.")] = None,
    task_id: Annotated[str, typer.Option(help="Only versions trained for this task.")] = "",
) -> None:
    """List versions, newest first."""
    if history and not adapter:
        raise typer.BadParameter("--history needs an ADAPTER.")
    changes: tuple[PointerChange, ...] = ()
    with context.client() as client:
        versions = list(client.versions(adapter, states=state or (), task_id=task_id))
        if history:
            changes = client.list(adapter, page_size=1, include_history=True).history
    if context.json:
        found = {"versions": [version.to_dict() for version in versions]}
        output.emit_json({**found, "history": [c.to_dict() for c in changes]} if history else found)
        return
    if not versions:
        output.say("No versions.")
    else:
        columns = ("VERSION", "STATE", "ACCURACY", "BRIER", "VERDICT", "BASE MODEL", "FROM", "TASK", "ACTOR", "CREATED")
        rows = [
            (
                v.name,
                v.state,
                _change(v.metrics_before, v.metrics_after, "accuracy"),
                _change(v.metrics_before, v.metrics_after, "brier"),
                v.verdict.outcome if v.verdict else "",
                v.base_model,
                v.continued_from,
                v.task_id,
                v.actor,
                output.when(v.create_time),
            )
            for v in versions
        ]
        output.table(columns, rows)
    if changes:
        moves = ("REVISION", "IN FORCE", "BEFORE", "KIND", "ACTOR", "REASON", "WHEN")
        history_rows = [
            (c.pointer_revision, c.active, c.previous, c.kind, c.actor, c.reason, output.when(c.time)) for c in changes
        ]
        output.table(moves, history_rows, title="\nHistory of what is in force")


def jobs(
    context: Context,
    adapter: Annotated[str, typer.Option(help="Only jobs of this adapter.")] = "",
    state: Annotated[list[str] | None, typer.Option(help="Only jobs in this state; repeatable.")] = None,
    task_id: Annotated[str, typer.Option(help="Only jobs of this task.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
) -> None:
    """List jobs, newest first."""
    with context.client() as client:
        page = client.list_jobs(adapter, states=state or (), task_id=task_id, page_size=min(limit, 1000))
        found = list(page.items)
        while page.next_page_token and len(found) < limit:
            page = client.list_jobs(
                adapter,
                states=state or (),
                task_id=task_id,
                page_size=min(limit, 1000),
                page_token=page.next_page_token,
            )
            found.extend(page.items)
    found = found[:limit]
    if context.json:
        output.emit_json({"jobs": [job.to_dict() for job in found]})
    elif not found:
        output.say("No jobs.")
    else:
        _jobs(found)


def _change(before: Metrics | None, after: Metrics | None, key: str) -> str:
    if after is None:
        return ""
    now = f"{getattr(after, key):.3f}"
    return now if before is None else f"{getattr(before, key):.3f} -> {now}"


def _jobs(found: list[Job]) -> None:
    columns = ("JOB", "STATE", "ADAPTER", "DONE", "VERSION", "ROWS", "TASK", "ACTOR", "CREATED")
    rows = [
        (
            job.job_id,
            job.state,
            job.adapter,
            f"{job.progress.fraction_done:.0%}" if job.progress else "",
            job.version,
            job.samples,
            job.task_id,
            job.actor,
            output.when(job.create_time),
        )
        for job in found
    ]
    output.table(columns, rows)


def _job(job: Job) -> None:
    place = f", place {job.queue_position}" if job.queue_position else ""
    ending = ", being cancelled" if job.cancel_requested and job.end_time is None else ""
    output.say(f"Job {job.job_id}: {job.state}{place}{ending}", "bold")
    facts = [
        ("adapter", job.adapter),
        ("base model", job.base_model),
        ("rows", job.samples),
        ("task", job.task_id),
        ("actor", job.actor),
        ("domain", job.domain),
        ("continues from", job.continue_from),
        ("created", output.when(job.create_time)),
        ("started", output.when(job.start_time)),
        ("ended", output.when(job.end_time)),
        ("attempt", job.attempt or ""),
        ("last event", job.last_sequence),
        ("version", job.version),
    ]
    if job.progress and job.state is JobState.RUNNING:
        p = job.progress
        facts.append(("progress", f"step {p.step}/{p.total_steps}, loss {p.loss:.4f}, {speed(p)}"))
    for name, value in facts:
        if value != "":
            output.say(one_line(f"  {name:<15}{value}"))
    if job.failure:
        output.say(f"Failed: {job.failure.reason}: {job.failure.message}", "bold red")
    if job.verdict:
        scores(job.verdict)
        verdict(job.verdict)


def _service(service: ServiceStatus) -> None:
    output.say(f"lyra-adapters {service.version} on {service.device or 'a device not known yet'}", "bold")
    if service.start_time:
        output.say(f"Up since {output.when(service.start_time)}")
    rows = [
        (b.alias, b.state, b.identity.id if b.identity else "", b.architecture, b.error) for b in service.base_models
    ]
    output.table(("BASE MODEL", "STATE", "ID", "ARCHITECTURE", "ERROR"), rows)
    if service.adapters:
        in_force = [
            (
                a.adapter,
                a.active,
                a.pointer_revision,
                a.versions,
                ("yes" if a.training_due.due else "no") if a.training_due else "",
                output.when(a.change_time),
            )
            for a in service.adapters
        ]
        output.table(("ADAPTER", "IN FORCE", "REVISION", "VERSIONS", "TRAINING DUE", "CHANGED"), in_force)
        for a in service.adapters:
            if a.training_due and a.training_due.have_samples:
                output.say(f"  {a.adapter}: {a.training_due.explanation}")
    else:
        output.say("No adapters yet; the bare base model is in force.")
    if service.running_jobs or service.queued_jobs:
        _jobs([*service.running_jobs, *service.queued_jobs])
    output.say(f"Queue: {service.queue_length} waiting")


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    app.command()(command(status))
    app.command("list")(command(list_))
    app.command()(command(jobs))
