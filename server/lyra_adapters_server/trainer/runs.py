"""The runs of a job: one training for each candidate and fold, and a last one over all rows where there are folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lyra_adapters_server.trainer.calibration import Triple, fit_temperature
from lyra_adapters_server.types import TrainingConfig, Value

# Fewest rows that a temperature is fitted on without those that were picked out.
LEAST_IN_USE = 20


@dataclass(frozen=True)
class Run:
    """One training of a job.

    Attributes:
        number: Its place, from 1.
        name: What it is, for people; empty where there is but one.
        training: Its settings.
        rows: Positions of the rows that it trains on.
        inner: Positions of the rows that it is scored on, never trained on. Empty: the last step is kept.
        candidate: Which candidate it belongs to, from 0.
        last: Whether it trains on all rows for as long as the folds say.
    """

    number: int
    name: str
    training: TrainingConfig
    rows: tuple[int, ...]
    inner: tuple[int, ...]
    candidate: int
    last: bool = False


class RunResult(Value):
    """What became of a run: where it was best on its inner rows, and what it said of them there."""

    candidate: int
    # Share of the planned steps after which it was best: folds of other sizes have other step counts.
    best_share: float
    # None: it was broken off, and its candidate is out of the running.
    loss: float | None
    rows: int
    probabilities: list[Triple]
    labels: list[int]
    # Which of the inner rows came because a model had erred (TrainSpec.picked_out); empty: none.
    picked_out: tuple[bool, ...] = ()
    # Of the inner rows, in the loss; empty: each weighs 1.
    weights: tuple[float, ...] = ()


def plan_runs(rows: int, folds: Sequence[Sequence[int]], training: TrainingConfig) -> list[Run]:
    """All runs but the settings of the last one after folds, which depend on the others (see final_run).

    Args:
        rows: Training rows.
        folds: Positions of the inner rows of each fold; none: one run over all rows.
        training: The job's settings, with its candidates.
    """
    # Without inner rows nothing can be chosen: the first candidate is taken.
    settings = _settings(training) if folds else _settings(training)[:1]
    parts: Sequence[Sequence[int]] = folds or [()]
    found: list[Run] = []
    for candidate, one in enumerate(settings):
        for fold, inner in enumerate(parts):
            left_out = set(inner)
            found.append(
                Run(
                    number=len(found) + 1,
                    name=_name(settings, candidate, len(parts), fold),
                    training=one,
                    rows=tuple(row for row in range(rows) if row not in left_out),
                    inner=tuple(inner),
                    candidate=candidate,
                )
            )
    if len(parts) > 1:
        found.append(Run(len(found) + 1, "all rows", settings[0], tuple(range(rows)), (), candidate=0, last=True))
    return found


def best_candidate(results: Sequence[RunResult]) -> int:
    """The candidate in the running with the lowest mean loss over its inner rows; of equals the first."""
    out = candidates_out(results)
    candidates = sorted({result.candidate for result in results} - out)

    def loss(candidate: int) -> float:
        own = [(one.loss, one.rows) for one in results if one.candidate == candidate and one.loss is not None]
        return sum(loss * rows for loss, rows in own) / sum(rows for _, rows in own)

    return min(candidates, key=loss)


def candidates_out(results: Sequence[RunResult]) -> set[int]:
    """The candidates of which a run was broken off."""
    return {result.candidate for result in results if result.loss is None}


def final_run(run: Run, training: TrainingConfig, results: Sequence[RunResult]) -> tuple[Run, float]:
    """The last run with the best candidate's settings, and the share of its steps after which it stops."""
    best = best_candidate(results)
    shares = [result.best_share for result in results if result.candidate == best]
    settings = _settings(training)
    name = run.name if len(settings) == 1 else f"{run.name}; {_words(settings[best])}"
    chosen = Run(run.number, name, settings[best], run.rows, (), best, last=True)
    return chosen, sum(shares) / len(shares)


def temperature_of(results: Sequence[RunResult]) -> tuple[float, int, bool]:
    """The best candidate's temperature, the rows it was fitted on, and whether they were predicted in folds.

    Rows that were picked out are left aside where there are LEAST_IN_USE others: a model is right on fewer of them than
    in use, so that it would be made less sure than it should be.
    """
    best = best_candidate(results)
    own = [result for result in results if result.candidate == best]
    everything = [
        row
        for result in own
        for row in zip(
            result.probabilities,
            result.labels,
            result.picked_out or (False,) * len(result.labels),
            result.weights or (1.0,) * len(result.labels),
            strict=True,
        )
    ]
    in_use = [row for row in everything if not row[2]]
    fitted = in_use if len(in_use) >= LEAST_IN_USE else everything
    probabilities, labels, weights = [row[0] for row in fitted], [row[1] for row in fitted], [row[3] for row in fitted]
    return fit_temperature(probabilities, labels, weights), len(labels), len(own) > 1


def _settings(training: TrainingConfig) -> list[TrainingConfig]:
    """The job's settings once for each candidate."""
    changes = [candidate.model_dump(exclude_none=True) for candidate in training.candidates]
    return [training.model_copy(update={"candidates": (), **change}) for change in changes or [{}]]


def _name(settings: Sequence[TrainingConfig], candidate: int, folds: int, fold: int) -> str:
    words = []
    if len(settings) > 1:
        words.append(f"candidate {candidate + 1} of {len(settings)}: {_words(settings[candidate])}")
    if folds > 1:
        words.append(f"fold {fold + 1} of {folds}")
    return "; ".join(words)


def _words(training: TrainingConfig) -> str:
    return f"{training.epochs} epochs, learning rate {training.learning_rate:g}"
