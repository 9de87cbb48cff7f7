"""The allow-list as callers meet it: finding a base model by alias or id, and its readiness."""

from __future__ import annotations

from collections.abc import Sequence

from lyra_adapters.v1 import adapter_service_pb2 as pb

from lyra_adapters_server.errors import Kind, Refusal
from lyra_adapters_server.executors.base import Executor
from lyra_adapters_server.trainer.spec import BaseModelConfig
from lyra_adapters_server.types import BaseCard, BaseState

_STATES: dict[BaseState, pb.BaseModelState] = {
    BaseState.UNLOADED: pb.BASE_MODEL_STATE_UNLOADED,
    BaseState.LOADING: pb.BASE_MODEL_STATE_LOADING,
    BaseState.READY: pb.BASE_MODEL_STATE_READY,
    BaseState.FAILED: pb.BASE_MODEL_STATE_FAILED,
}


def find_base(bases: Sequence[BaseModelConfig], executor: Executor, asked: str) -> BaseCard:
    """The card of the base model asked for by alias or id (empty: the first of the allow-list). Raises Refusal."""
    base = next((base for base in bases if asked in ("", base.alias, base.source)), None)
    if base is None:
        aliases = [base.alias for base in bases]
        raise Refusal(
            Kind.PERMISSION_DENIED,
            "BASE_MODEL_NOT_ALLOWED",
            f"base_model {asked[:200]!r} is not on this server's allow-list; allowed are: {', '.join(aliases)}.",
            metadata={"allowed": ",".join(aliases)},
        )
    card = executor.card(base.alias)
    if card is None:
        raise _not_ready(base.alias, executor.load_error(base.alias))
    return card


def base_status(base: BaseModelConfig, executor: Executor) -> pb.BaseModelStatus:
    """Readiness and identity of a base model."""
    card, error = executor.card(base.alias), executor.load_error(base.alias)
    state = _STATES[executor.base_state(base.alias)]
    if card is None:
        return pb.BaseModelStatus(
            alias=base.alias, identity=pb.BaseModelIdentity(id=base.source), state=state, error=error
        )
    return pb.BaseModelStatus(
        alias=base.alias,
        identity=pb.BaseModelIdentity(**card.identity.model_dump()),
        state=state,
        error=error,
        architecture=card.architecture,
        parameters=card.parameters,
        linear_modules=sorted(card.linear_modules),
        default_target_modules=card.default_target_modules,
        prompt=card.prompt_name,
    )


def _not_ready(alias: str, error: str) -> Refusal:
    if error:
        return Refusal(Kind.UNAVAILABLE, "BASE_MODEL_FAILED", f"Base model {alias} can't be used: {error}")
    return Refusal(
        Kind.UNAVAILABLE,
        "BASE_MODEL_NOT_READY",
        f"Base model {alias} is still being loaded; try again in a few seconds.",
        retry_after_s=2.0,
    )
