"""Temperature scaling: one number per version that makes its probabilities mean what they say."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

Triple = tuple[float, float, float]

# Temperatures beyond these come from too few rows, never from a model.
_LOWEST, _HIGHEST = 0.2, 5.0
# Standard deviation of a temperature's logarithm before any row is seen: keeps a dozen rows from claiming much.
_SPREAD = 0.5
_LEAST = 1e-12


def fit_temperature(
    probabilities: Sequence[Triple], labels: Sequence[int], weights: Sequence[float] | None = None
) -> float:
    """The temperature under which rows' labels are most likely (Guo et al., 2017, arXiv 1706.04599).

    Fitted on few rows it would swing, so its logarithm is held near 0 by a normal prior; a hundred rows outweigh it.

    Args:
        probabilities: (rows, 3) at temperature 1, of rows that the model was not trained on.
        labels: (rows), indices into LABELS.
        weights: (rows), how much each counts beside the others; None: alike. Uneven weights make few rows decide, so
            all count together as so many even ones as they are worth (Kish's effective sample size).

    Returns:
        The temperature, 0.2 to 5; 1.0 without rows.
    """
    if not labels:
        return 1.0
    logs, rows = _logs(probabilities), np.arange(len(labels))
    counted = np.ones(len(labels)) if weights is None else np.asarray(weights)
    counted = counted * counted.sum() / (counted**2).sum()

    def cost(logarithm: float) -> float:
        scaled = logs / math.exp(logarithm)
        likelihoods = scaled[rows, labels] - np.logaddexp.reduce(scaled, axis=1)
        return float(-(counted * likelihoods).sum()) + (logarithm / _SPREAD) ** 2 / 2

    found = minimize_scalar(cost, bounds=(math.log(_LOWEST), math.log(_HIGHEST)), method="bounded")
    # To four digits: what is stored and shown is exactly what is applied.
    return float(f"{math.exp(found.x):.4g}")


def at_temperature(probabilities: Sequence[Triple], temperature: float) -> list[Triple]:
    """Probabilities (rows, 3) at temperature 1 as they are at another: softmax(log p / temperature)."""
    if temperature == 1.0 or not probabilities:
        return list(probabilities)
    scaled = _logs(probabilities) / temperature
    found = np.exp(scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True))
    return [(row[0], row[1], row[2]) for row in found.tolist()]


def _logs(probabilities: Sequence[Triple]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.log(np.maximum(np.asarray(probabilities, dtype=float), _LEAST))
    return found
