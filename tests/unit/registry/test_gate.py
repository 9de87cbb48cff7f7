from __future__ import annotations

import pytest
from lyra_adapters_server.registry.gate import Outcome, judge
from lyra_adapters_server.types import Metrics


def scores(accuracy: float, brier: float, samples: int = 100) -> Metrics:
    return Metrics(samples=samples, accuracy=accuracy, macro_f1=0, brier=brier, loss=0, confusion=[[0] * 3] * 3)


@pytest.mark.parametrize(
    ("accuracy", "brier", "outcome"),
    [
        (0.71, 0.40, Outcome.BETTER),
        (0.70, 0.40, Outcome.NOT_WORSE),
        (0.69, 0.39, Outcome.NOT_WORSE),
        (0.68, 0.40, Outcome.NOT_WORSE),
        (0.67, 0.30, Outcome.WORSE),
        (0.90, 0.41, Outcome.WORSE),
    ],
)
def test_rule(accuracy: float, brier: float, outcome: Outcome) -> None:
    judgement = judge(scores(0.70, 0.40), scores(accuracy, brier))
    assert judgement.outcome == outcome
    assert f"{accuracy:.3f}" in judgement.explanation


def test_undecided_without_rows_to_compare_on() -> None:
    assert judge(None, None).outcome == Outcome.UNDECIDED
    assert not judge(None, None).outcome.passes
