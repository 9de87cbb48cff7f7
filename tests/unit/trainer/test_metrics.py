import math
import random

import pytest
from lyra_adapters_server.trainer.metrics import calibration_error, compute_metrics


def test_a_worked_example() -> None:
    rows = [(0.7, 0.2, 0.1), (0.6, 0.3, 0.1), (0.1, 0.8, 0.1), (0.5, 0.3, 0.2)]
    metrics = compute_metrics(rows, [0, 1, 1, 0])
    assert metrics.confusion == [[2, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert metrics.samples == 4
    assert metrics.accuracy == 0.75
    # SUPPORTS 2*2/(2+3), REFUTES 2*1/(2+1), and NEUTRAL, which neither occurs nor is predicted, 0.
    assert metrics.macro_f1 == pytest.approx((0.8 + 2 / 3 + 0) / 3)
    briers = [0.09 + 0.04 + 0.01, 0.36 + 0.49 + 0.01, 0.01 + 0.04 + 0.01, 0.25 + 0.09 + 0.04]
    assert metrics.brier == pytest.approx(sum(briers) / 4)
    assert metrics.loss == pytest.approx(-(math.log(0.7) + math.log(0.3) + math.log(0.8) + math.log(0.5)) / 4)


def test_rows_count_by_their_weights() -> None:
    rows = [(0.7, 0.2, 0.1), (0.6, 0.3, 0.1), (0.1, 0.8, 0.1)]
    found = compute_metrics(rows, [0, 1, 1], weights=[2, 1, 1])
    repeated = compute_metrics([rows[0], *rows], [0, 0, 1, 1])
    for name in ("accuracy", "macro_f1", "brier", "loss"):
        assert getattr(found, name) == pytest.approx(getattr(repeated, name))
    assert (found.samples, found.confusion) == (3, [[1, 0, 0], [1, 1, 0], [0, 0, 0]])


def test_a_certain_mistake_has_a_finite_loss_and_the_largest_brier() -> None:
    metrics = compute_metrics([(1.0, 0.0, 0.0)], [2])
    assert math.isfinite(metrics.loss)
    assert metrics.brier == 2.0


@pytest.mark.parametrize(("rows", "labels"), [([], []), ([(1.0, 0.0, 0.0)], [0, 1])])
def test_refuses_what_it_cannot_score(rows: list[tuple[float, float, float]], labels: list[int]) -> None:
    with pytest.raises(ValueError, match="rows of probabilities"):
        compute_metrics(rows, labels)


def test_calibration_error_of_honest_and_of_boasting_probabilities() -> None:
    generator = random.Random(0)

    def rows(count: int, claimed: float, real: float) -> tuple[list[tuple[float, float, float]], list[int]]:
        rest = (1 - claimed) / 2
        labels = [0 if generator.random() < real else 1 for _ in range(count)]
        return [(claimed, rest, rest)] * count, labels

    assert calibration_error(*rows(20_000, 0.7, 0.7)) < 0.02
    assert calibration_error(*rows(20_000, 0.9, 0.6)) == pytest.approx(0.3, abs=0.02)
    # Chance alone makes the plain estimate large on few rows; less of it is left here.
    few = [calibration_error(*rows(100, 0.7, 0.7)) for _ in range(200)]
    plain = 0.7 * 0.3 / 10  # the expected squared gap of a bin of ten
    assert sum(few) / len(few) < 0.6 * plain**0.5
    assert calibration_error(*rows(19, 0.9, 0.1)) == 0.0
