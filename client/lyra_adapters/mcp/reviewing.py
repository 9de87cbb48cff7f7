"""The tools for pairs: record what a reviewer said, and see what the model says."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from pydantic import Field

from lyra_adapters.errors import AdapterError, NotFound
from lyra_adapters.mcp.app import BASE, DEFAULT_ADAPTER, Actor, Adapter, Ctx, client, split_version, who
from lyra_adapters.mcp.inputs import Pairs, Reviews
from lyra_adapters.mcp.outputs import DueView, Labels, LabelView, Recorded


async def record_feedback(
    ctx: Ctx,
    reviews: Reviews,
    task_id: Annotated[str, Field(max_length=200, description="The task they belong to.")] = "",
    domain: Annotated[str, Field(max_length=200, description="Their domain.")] = "",
    adapter: Annotated[str, Field(description=f"Whose training_due to answer with. Empty: {DEFAULT_ADAPTER}.")] = "",
    actor: Actor = "",
) -> Recorded:
    """Stores reviewed predictions, corrections and confirmations alike, to train on later.

    Recording one twice changes nothing; with the same id and another label it becomes a new revision.
    """
    receipt = await client(ctx).record_feedback(
        [review.review(task_id, domain) for review in reviews], actor=who(ctx, actor)
    )
    due = await _due(ctx, adapter or DEFAULT_ADAPTER)
    if due is None:
        say = "calibrate starts training once there are enough."
    elif due.due:
        say = f"Training is due ({due.explanation}) Offer the user to calibrate."
    else:
        say = f"Training is not due yet. {due.explanation}"
    return Recorded(
        stored=receipt.stored,
        unchanged=receipt.unchanged,
        revised=receipt.revised,
        ids=list(receipt.ids),
        training_due=due,
        next=say,
    )


async def _due(ctx: Ctx, adapter: str) -> DueView | None:
    # The reviews are stored; not to know this must not look as if they were not.
    with suppress(AdapterError):
        adapters = {status.adapter: status for status in (await client(ctx).status()).adapters}
        # A name that nothing was trained under yet has all reviews before it, as the default's first version had.
        status = adapters.get(adapter) or adapters.get(DEFAULT_ADAPTER)
        return DueView.of(status.training_due) if status and status.training_due else None
    return None


async def classify_pairs(
    ctx: Ctx,
    pairs: Pairs,
    adapter: Adapter = "",
    version: Annotated[str, Field(description="v3, base (no adapter), or empty for what is in force.")] = "",
    base_model: Annotated[str, Field(description="For base: alias or id. Empty: the service's default.")] = "",
) -> Labels:
    """Says whether each premise SUPPORTS, REFUTES or is NEUTRAL to its hypothesis, with what is in force or a version.

    For checking an adapter, not for labelling a corpus.
    """
    adapter, version = split_version(adapter, version)
    service, some = client(ctx), [pair.model_dump() for pair in pairs]
    try:
        answer = await service.classify(some, adapter=adapter, version=version, base_model=base_model)
    except NotFound as error:
        # Before the first training the base is what is in force, and to see its errors is why one asks.
        if adapter or version or error.reason != "ADAPTER_NOT_FOUND":
            raise
        answer = await service.classify(some, version=BASE, base_model=base_model)
    return Labels(
        results=[
            LabelView(
                label=result.label.value,
                supports=result.probabilities.supports,
                refutes=result.probabilities.refutes,
                neutral=result.probabilities.neutral,
                truncated=result.truncated,
            )
            for result in answer.results
        ],
        version=answer.version,
        base_model=answer.base_model,
    )
