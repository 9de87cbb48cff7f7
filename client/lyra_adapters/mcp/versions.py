"""The tools for what is in force: roll back, and list what there is."""

from __future__ import annotations

from typing import Annotated, Literal

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from lyra_adapters.errors import AdapterError
from lyra_adapters.mcp.app import BASE, Actor, Ctx, client, split_version, who
from lyra_adapters.mcp.outputs import ChangeView, RolledBack, TouchedTask, Versions, VersionView

# Enough to name every task that matters; a page of the service.
NEWEST = 1_000


async def calibrate_rollback(
    ctx: Ctx,
    task_id: Annotated[str, Field(description="The task whose adapter is meant. Either this or adapter.")] = "",
    adapter: Annotated[str, Field(description="The adapter. Either this or task_id.")] = "",
    version: Annotated[
        str, Field(description="A version that was in force before, v2. Empty: one step back; again: one more.")
    ] = "",
    base: Annotated[bool, Field(description="Back to the bare base model, without any adapter.")] = False,
    reason: Annotated[str, Field(max_length=2_000, description="Why; kept with the change.")] = "",
    expected_active: Annotated[
        str, Field(description="What must be in force now (a full name, v3, or base), else nothing changes.")
    ] = "",
    actor: Actor = "",
) -> RolledBack:
    """Takes an adapter back at once: one step, to an earlier version, or to the bare base model.

    Deletes nothing. An adapter is shared: the answer names the other tasks that it touches; tell the user.
    """
    service = client(ctx)
    if base and version and version != BASE:
        raise ToolError("base and version exclude each other. Nothing was changed. Give one of the two.")
    adapter, version = split_version(adapter, BASE if base else version)
    if task_id and adapter:
        # The service takes one of the two, and a mix-up would move an adapter that nobody meant.
        if not (await service.list(adapter, task_id=task_id, page_size=1)).items:
            raise ToolError(
                f"Task {task_id} has trained no version of {adapter}. Nothing was changed. Leave one of the two out."
            )
    elif not task_id and not adapter:
        raise ToolError("Give task_id or adapter. Nothing was changed. calibrate_status lists the adapters there are.")
    move = await service.rollback(
        adapter,
        task_id="" if adapter else task_id,
        to_version=version,
        reason=reason,
        actor=who(ctx, actor),
        expected_active=expected_active,
    )
    change = move.change
    says = f"{change.active} is in force under {change.adapter}" + ("." if move.changed else "; it already was.")
    touched: list[TouchedTask] = []
    try:
        touched = await _other_tasks(ctx, change.adapter, task_id)
        if touched:
            says += f" This also touches {', '.join(task.task_id for task in touched)}: tell the user."
    except AdapterError:
        # An error would read as if nothing had changed, and a repetition go one step further back.
        says += " Which other tasks it touches is not known: see calibrate_versions."
    return RolledBack(
        changed=move.changed,
        adapter=change.adapter,
        in_force=change.active,
        previous=change.previous,
        pointer_revision=change.pointer_revision,
        also_touched=touched,
        next=says,
    )


async def _other_tasks(ctx: Ctx, adapter: str, task_id: str) -> list[TouchedTask]:
    tasks: dict[str, list[str]] = {}
    for version in (await client(ctx).list(adapter, page_size=NEWEST)).items:
        if version.task_id not in ("", task_id):
            tasks.setdefault(version.task_id, []).append(version.name)
    return [TouchedTask(task_id=task, versions=names) for task, names in tasks.items()]


async def calibrate_versions(
    ctx: Ctx,
    adapter: Annotated[str, Field(description="Only this adapter's. Empty: of all.")] = "",
    task_id: Annotated[str, Field(description="Only versions trained for this task.")] = "",
    states: Annotated[
        list[Literal["CANDIDATE", "ACTIVE", "RETIRED", "REJECTED"]] | None,
        Field(description="Only versions in these states; ACTIVE is in force, RETIRED was."),
    ] = None,
    include_history: Annotated[
        bool, Field(description="Also every change of what is in force; needs adapter.")
    ] = False,
    limit: Annotated[int, Field(ge=1, le=100, description="Versions a page.")] = 20,
    page_token: Annotated[str, Field(description="next_page_token of the page before.")] = "",
) -> Versions:
    """Lists published versions, newest first: their scores, the verdict on each, who asked, and what is in force."""
    if include_history and not adapter:
        raise ToolError("include_history needs adapter. calibrate_status lists the adapters there are.")
    page = await client(ctx).list(
        adapter,
        states=states or (),
        task_id=task_id,
        page_size=limit,
        page_token=page_token,
        include_history=include_history,
    )
    return Versions(
        versions=[VersionView.of(version) for version in page.items],
        total=page.total_size,
        next_page_token=page.next_page_token,
        history=[ChangeView.of(change) for change in page.history],
    )
