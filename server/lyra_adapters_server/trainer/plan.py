"""The plan of a training: made from what this worker does, or kept from the job's first start."""

from __future__ import annotations

import platform
from collections.abc import Generator
from typing import TypeVar

import peft
import torch
import transformers

from lyra_adapters_server.trainer.base import Base
from lyra_adapters_server.trainer.kernels import ops
from lyra_adapters_server.trainer.score import score_token_budget
from lyra_adapters_server.trainer.spec import Plan
from lyra_adapters_server.trainer.suspend import Suspend

Item = TypeVar("Item")

# What a worker can do as a job was begun, whatever its own settings are.
_KEPT = ("threads", "train_token_budget", "score_token_budget")
_COMPILED, _PLAIN = "compiled", "fused"
# What the compiled kernels compute in.
_LOW = "bfloat16"


def train_token_budget(base: Base) -> int:
    """Tokens of a micro-batch with gradients: what bounds the memory, and on CPU what the caches hold."""
    return 1024 if base.device.type == "cpu" else 16384


def new_plan(base: Base) -> Plan:
    """How this worker computes by its own settings."""
    return Plan(
        device=base.card.device,
        dtype=base.card.dtype,
        threads=torch.get_num_threads(),
        kernels=_kernels(base),
        attention=str(getattr(base.model.config, "_attn_implementation", "")),
        train_token_budget=train_token_budget(base),
        score_token_budget=score_token_budget(base),
        machine=platform.machine(),
        instructions=torch.backends.cpu.get_cpu_capability(),
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=transformers.__version__,
        peft=peft.__version__,
    )


def settle(own: Plan | None, base: Base) -> tuple[Plan, list[str]]:
    """The plan to run under: the job's own as far as this worker can.

    Args:
        own: The plan that the job was begun under; None if it has not begun.
        base: The job's.

    Returns:
        The plan, and in words what is not as it was, such as `torch 2.6.0, was 2.5.1`.
    """
    plan = new_plan(base)
    if own is None:
        return plan, []
    kept = {name: getattr(own, name) for name in _KEPT}
    if own.kernels == plan.kernels.replace(_COMPILED, _PLAIN):
        # It was begun where there were none, and does without them to its end.
        kept["kernels"] = own.kernels
    plan = plan.model_copy(update=kept)
    before, now = own.model_dump(), plan.model_dump()
    return plan, [f"{name} {now[name]}, was {before[name]}" for name in now if now[name] != before[name]]


def _kernels(base: Base) -> str:
    is_low = base.device.type == "cpu" and base.card.dtype == _LOW
    kind = _COMPILED if is_low and ops.fit() else _PLAIN
    return f"{kind}_packed" if base.packs else kind


def under(plan: Plan, work: Generator[Item, None, None]) -> Generator[Item, None, None]:
    """Runs a generator's turns on a plan's CPU threads and kernels, and leaves both as they were in between.

    So jobs of different plans, and what else the worker does, take turns. Suspend passes through to the generator.
    """
    wish: Suspend | None = None
    try:
        while True:
            usual = torch.get_num_threads()
            _use(plan.threads, usual)
            try:
                with ops.using(plan.kernels.startswith(_COMPILED) or plan.dtype != _LOW):
                    item = next(work) if wish is None else work.throw(wish)
            except StopIteration:
                return
            finally:
                _use(usual, torch.get_num_threads())
            wish = None
            try:
                yield item
            except Suspend as thrown:
                wish = thrown
    finally:
        work.close()


def _use(count: int, current: int) -> None:
    if count != current:
        torch.set_num_threads(count)
