"""The learning rate: its usual peak, and how it rises and falls. Imports no torch: the server asks for it too."""

from __future__ import annotations

from lyra_adapters_server.types import BaseCard

# Measured on a causal model of this width (docs/learning.md): 5e-4 and 1e-3 learn too little in a few epochs; 3e-3
# learns more with most seeds, and nothing for long with others.
_WIDTH, _PEAK = 576, 2e-3
# Encoders learn less above a third of it, as far as was tried.
_ENCODERS = 1 / 3
# A version that is gone on from is to keep what it knows, so it takes smaller steps.
_CONTINUED = 1 / 2
# How the best rate falls with the width of a model (Schulman et al., 2025, "LoRA Without Regret").
_EXPONENT = 0.78
# Narrower models than were measured get no higher rate.
_HIGHEST = 3e-3


def usual_peak(card: BaseCard, *, continued: bool) -> float:
    """AdamW's peak learning rate where the request says none, to two digits.

    Args:
        card: Of the base.
        continued: Whether a version is gone on from.
    """
    peak = min(_PEAK * (_WIDTH / card.width) ** _EXPONENT, _HIGHEST)
    peak *= (1 if card.prompt else _ENCODERS) * (_CONTINUED if continued else 1)
    return float(f"{peak:.2g}")


def learning_rate_at(step: int, total_steps: int, peak: float, warmup_ratio: float) -> float:
    """The rate of a step (1 to total_steps): a linear rise over the first share, then a linear fall towards 0."""
    warmup = round(total_steps * warmup_ratio)
    if step <= warmup:
        return peak * step / warmup
    return peak * (total_steps - step + 1) / (total_steps - warmup + 1)
