"""The tools of a job's life: start, look, wait, cancel."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated, Literal

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from lyra_adapters import errors
from lyra_adapters.mcp.app import DEFAULT_ADAPTER, Actor, Adapter, Ctx, client, who
from lyra_adapters.mcp.inputs import LoraInput, TrainingInput
from lyra_adapters.mcp.outputs import Calibration, DueView, JobView, ServiceView, Status, ended
from lyra_adapters.mcp.progress import Climb

# Hosts end calls after a minute.
MAX_WAIT = 55

JobId = Annotated[str, Field(min_length=1, description="The job, as calibrate gave it.")]


async def calibrate(
    ctx: Ctx,
    task_id: Annotated[str, Field(max_length=200, description="Your task. calibrate_rollback can name it later.")],
    source: Annotated[
        Literal["feedback", "task_feedback"],
        Field(
            description="feedback: all recorded reviews, so that an adapter keeps what other tasks taught it. "
            "task_feedback: only those recorded for task_id."
        ),
    ] = "feedback",
    min_samples: Annotated[int, Field(ge=1, le=20_000, description="Fewest reviews to train on.")] = 50,
    min_error_rate: Annotated[
        float, Field(ge=0, le=1, description="Smallest share of reviewed predictions that were wrong.")
    ] = 0.1,
    force: Annotated[bool, Field(description="Train whatever the counts say. Only if the user wants it.")] = False,
    only_new: Annotated[bool, Field(description="Only reviews that no version of the adapter has used.")] = False,
    adapter: Adapter = "",
    domain: Annotated[str, Field(description="The reviews' domain; a new one makes training due.")] = "",
    base_model: Annotated[str, Field(description="Alias or id. Empty: the service's default.")] = "",
    continue_from: Annotated[str, Field(description="Full name of a version to start from, academic_v1.")] = "",
    activation: Annotated[
        Literal["gated", "manual", "always"],
        Field(description="When the new version goes in force: if it stands up to the one in force, never, always."),
    ] = "gated",
    training: TrainingInput | None = None,
    lora: LoraInput | None = None,
    actor: Actor = "",
    request_id: Annotated[str, Field(description="A UUID; the same one again gives the same job.")] = "",
) -> Calibration:
    """Starts training an adapter from recorded reviews and returns at once with the job.

    If training is not due it says what is missing. Training takes minutes: go on with calibrate_wait.
    """
    if source == "task_feedback" and not task_id:
        raise ToolError("source task_feedback needs a task_id. Nothing was started. Give it, or use source feedback.")
    only_tasks = [task_id] if source == "task_feedback" else []
    try:
        async with client(ctx).train(
            feedback={"task_ids": only_tasks, "only_new": only_new},
            adapter=adapter,
            task_id=task_id,
            actor=who(ctx, actor),
            domain=domain,
            base_model=base_model,
            lora=lora.model_dump(exclude_none=True) if lora else None,
            training=training.model_dump(exclude_none=True) if training else None,
            trigger={"min_samples": min_samples, "min_error_rate": min_error_rate, "force": force},
            activation=activation,
            continue_from=continue_from,
            request_id=request_id or None,
        ) as stream:
            job_id = (await anext(stream)).job_id
    except errors.NotDue as error:
        missing = await _missing(ctx, error, only_tasks, adapter if only_new else None, min_samples, min_error_rate)
        return Calibration(
            started=False,
            job_id="",
            job=None,
            missing=missing,
            next="Tell the user what is missing. Record more reviews with record_feedback; with the user's consent "
            "lower min_samples or min_error_rate, or set force.",
        )
    # Whatever happens now, the job is there and the caller has to hear of it.
    with suppress(errors.AdapterError):
        job = JobView.of(await client(ctx).job(job_id))
        return Calibration(started=True, job_id=job_id, job=job, missing=None, next=job.next)
    return Calibration(started=True, job_id=job_id, job=None, missing=None, next="Call calibrate_wait with this job.")


async def _missing(
    ctx: Ctx,
    error: errors.NotDue,
    task_ids: list[str],
    new_for: str | None,
    min_samples: int,
    min_error_rate: float,
) -> DueView:
    # The refusal has the numbers of one condition only, and whoever fixes that one wants to know of the other too.
    have, rate = 0, None
    with suppress(errors.AdapterError):
        unused = "" if new_for is None else new_for or DEFAULT_ADAPTER
        counts = await client(ctx).feedback_summary(task_ids=task_ids, not_used_by=unused)
        have = counts.samples
        if reviewed := counts.corrections + counts.confirmations:
            rate = counts.corrections / reviewed
    if error.reason == "NOT_ENOUGH_SAMPLES":
        have = int(error.have or 0)
    else:
        rate = error.have
    wrong = "not asked for, no original label is known" if rate is None else f"{rate:.1%} of {min_error_rate:.1%}"
    return DueView(
        due=False,
        have_samples=have,
        need_samples=min_samples,
        have_error_rate=None if rate is None else round(rate, 4),
        need_error_rate=min_error_rate,
        explanation=f"Have {have:,} of {min_samples:,} samples; error rate {wrong}.",
    )


async def calibrate_status(
    ctx: Ctx,
    job_id: Annotated[str, Field(description="The job. Empty: see task_id.")] = "",
    task_id: Annotated[str, Field(description="The newest job of this task. Empty, and no job_id: the service.")] = "",
) -> Status:
    """One job; or the service: base models, jobs, what is in force, and whether training is due."""
    service = client(ctx)
    if job_id:
        return Status(job=JobView.of(await service.job(job_id)))
    if task_id:
        jobs = await service.list_jobs(task_id=task_id, page_size=1)
        if not jobs.items:
            raise ToolError(f"No job was started for task {task_id}. Start one with calibrate, or leave task_id out.")
        return Status(job=JobView.of(jobs.items[0]))
    return Status(service=ServiceView.of(await service.status()))


async def calibrate_wait(
    ctx: Ctx,
    job_id: JobId,
    seconds: Annotated[float, Field(ge=0, le=MAX_WAIT, description="Longest wait. Call again if not finished.")] = 45,
) -> JobView:
    """Waits for a job's end, with progress, for at most `seconds`; then says where it stands.

    If `finished` is false call it again. Leaving or cancelling this call stops no training.
    """
    service = client(ctx)
    job = await service.job(job_id)
    climb = Climb(ctx)
    if not ended(job):
        await climb.job(job)
        try:
            async with (
                asyncio.timeout(seconds),
                service.watch(job_id, after_sequence=job.last_sequence, heartbeats=True) as stream,
            ):
                async for event in stream:
                    await climb.event(event.event)
        except TimeoutError as error:
            # The client's own errors of this kind are about the service, not about these seconds.
            if isinstance(error, errors.AdapterError):
                raise
        job = await service.job(job_id)
    if ended(job):
        await climb.to(100, job.state.value.lower())
    return JobView.of(job)


async def calibrate_cancel(
    ctx: Ctx,
    job_id: JobId,
    reason: Annotated[str, Field(max_length=2_000, description="Why; kept with the job.")] = "",
    actor: Actor = "",
) -> JobView:
    """Stops a queued or running job. Nothing of it is published; what is in force stays."""
    job = await client(ctx).cancel(job_id, actor=who(ctx, actor), reason=reason)
    view = JobView.of(job)
    if not view.finished:
        view.next = "It is being stopped. calibrate_wait says when it has ended."
    return view
