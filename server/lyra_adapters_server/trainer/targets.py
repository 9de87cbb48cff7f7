"""Which linear modules of a base an adapter changes."""

from __future__ import annotations

from lyra_adapters_server.trainer.base import Base
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.types import LoraConfig

ALL_LINEAR = "all-linear"


def target_modules(base: Base, lora: LoraConfig) -> tuple[str, ...]:
    """Resolves the targets asked for: none means the family's, `all-linear` every linear module.

    Raises:
        TrainerError: TARGET_MODULES_UNKNOWN.
    """
    if not lora.target_modules:
        return base.card.default_target_modules
    if lora.target_modules == (ALL_LINEAR,):
        return base.linear_names()
    unknown = sorted(set(lora.target_modules) - set(base.linear_names()))
    if unknown:
        raise TrainerError(
            "TARGET_MODULES_UNKNOWN",
            f"no linear module is called {', '.join(unknown)}; there are {', '.join(base.linear_names())}",
        )
    return tuple(sorted(set(lora.target_modules)))
