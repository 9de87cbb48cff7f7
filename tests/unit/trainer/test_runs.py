from __future__ import annotations

import pytest
from lyra_adapters_server.trainer.calibration import at_temperature, fit_temperature
from lyra_adapters_server.trainer.runs import (
    LEAST_IN_USE,
    RunResult,
    best_candidate,
    final_run,
    plan_runs,
    temperature_of,
)
from lyra_adapters_server.types import Candidate, TrainingConfig

TWO = TrainingConfig(candidates=(Candidate(learning_rate=1e-3), Candidate(epochs=3)))


def result(candidate: int, loss: float, share: float = 0.5, rows: int = 10) -> RunResult:
    return RunResult(
        candidate=candidate, best_share=share, loss=loss, rows=rows, probabilities=[(0.8, 0.1, 0.1)], labels=[0]
    )


def test_one_run_over_all_rows_where_nothing_is_chosen() -> None:
    (run,) = plan_runs(5, [], TrainingConfig())
    assert (run.rows, run.inner, run.name, run.last) == ((0, 1, 2, 3, 4), (), "", False)


def test_without_inner_rows_the_first_candidate_is_taken() -> None:
    (run,) = plan_runs(5, [], TWO)
    assert run.training.learning_rate == 1e-3


def test_a_run_for_each_candidate_and_fold_and_one_over_all_rows() -> None:
    runs = plan_runs(6, [(0, 1), (2, 3), (4, 5)], TWO)
    assert [run.number for run in runs] == list(range(1, 8))
    assert [run.candidate for run in runs[:6]] == [0, 0, 0, 1, 1, 1]
    assert all(not set(run.rows) & set(run.inner) for run in runs)
    assert all(sorted((*run.rows, *run.inner)) == list(range(6)) for run in runs)
    assert (runs[-1].last, runs[-1].rows, runs[-1].inner) == (True, tuple(range(6)), ())
    assert runs[1].name == "candidate 1 of 2: 6 epochs, learning rate 0.001; fold 2 of 3"
    assert (runs[4].training.epochs, runs[4].training.learning_rate) == (3, TrainingConfig().learning_rate)
    assert runs[4].training.candidates == ()


def test_the_best_candidate_has_the_lowest_loss_over_all_its_inner_rows() -> None:
    results = [result(0, 0.5, rows=30), result(0, 1.5), result(1, 0.7, 0.2), result(1, 0.7, 0.4)]
    assert best_candidate(results) == 1
    last = plan_runs(6, [(0, 1, 2), (3, 4, 5)], TWO)[-1]
    run, share = final_run(last, TWO, results)
    assert (run.training.epochs, share) == (3, pytest.approx(0.3))
    assert temperature_of(results)[1:] == (2, True)


def test_the_temperature_undoes_boasting_and_shyness() -> None:
    # Right in seven of ten rows, with probabilities that say otherwise.
    labels = [0] * 700 + [1] * 300
    for claimed in (0.95, 0.5):
        told = [(claimed, (1 - claimed) / 2, (1 - claimed) / 2)] * 1000
        temperature = fit_temperature(told, labels)
        assert at_temperature(told[:1], temperature)[0][0] == pytest.approx(0.65, abs=0.08)
        assert (temperature > 1) == (claimed == 0.95)
    assert fit_temperature([], []) == 1.0


def test_few_rows_move_the_temperature_little() -> None:
    boasting = [(0.98, 0.01, 0.01)] * 4
    few, many = fit_temperature(boasting, [0, 0, 1, 1]), fit_temperature(boasting * 100, [0, 0, 1, 1] * 100)
    assert 1.0 < few < many <= 5.0


def test_a_temperature_keeps_the_order_and_the_sum() -> None:
    (row,) = at_temperature([(0.6, 0.3, 0.1)], 2.5)
    assert row[0] > row[1] > row[2]
    assert sum(row) == pytest.approx(1.0)
    assert at_temperature([(0.6, 0.3, 0.1)], 1.0) == [(0.6, 0.3, 0.1)]


@pytest.mark.parametrize("others", [LEAST_IN_USE, LEAST_IN_USE - 1])
def test_rows_that_an_error_chose_do_not_make_a_version_less_sure(others: int) -> None:
    # Right wherever no error chose the row, wrong wherever one did.
    found = RunResult(
        candidate=0,
        best_share=0.5,
        loss=0.5,
        rows=others + 40,
        probabilities=[(0.7, 0.2, 0.1)] * (others + 40),
        labels=[0] * others + [1] * 40,
        picked_out=(*[False] * others, *[True] * 40),
    )
    temperature, rows, _ = temperature_of([found])
    if others == LEAST_IN_USE:
        assert temperature < 1
        assert rows == others
    else:
        assert temperature > 1
        assert rows == others + 40


def test_rows_of_uneven_weights_move_the_temperature_less() -> None:
    told = [(0.7, 0.2, 0.1)] * 24
    labels = [0] * 4 + [1] * 20
    heavy = fit_temperature(told, labels, [3.0] * 4 + [0.6] * 20)
    # As if each heavy row stood for five: the same shares, and many more rows.
    repeated = fit_temperature([(0.7, 0.2, 0.1)] * 40, [0] * 20 + [1] * 20)
    assert abs(heavy - 1) < abs(repeated - 1)
    assert fit_temperature(told, labels, [7.0] * 24) == fit_temperature(told, labels)


def test_the_temperature_counts_rows_by_their_weights() -> None:
    # Right wherever no error chose the row; four of five were chosen by one.
    told = [(0.7, 0.2, 0.1)] * 50
    labels = [0] * 10 + [1] * 40
    assert fit_temperature(told, labels) > 1.5
    weights = [4.0] * 10 + [0.25] * 40
    found = RunResult(
        candidate=0, best_share=1, loss=1, rows=50, probabilities=told, labels=labels, weights=tuple(weights)
    )
    assert temperature_of([found])[0] == fit_temperature(told, labels, weights) < 1
