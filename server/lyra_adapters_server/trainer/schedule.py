"""Where a job stands among its runs, what the finished ones found, and the weights of the best so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from lyra_adapters_server.trainer.calibration import Triple, at_temperature, fit_temperature
from lyra_adapters_server.trainer.data import Row
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.events import RunSummary, TrainerWarning
from lyra_adapters_server.trainer.metrics import compute_metrics
from lyra_adapters_server.trainer.runs import (
    Run,
    RunResult,
    best_candidate,
    candidates_out,
    final_run,
    plan_runs,
    temperature_of,
)
from lyra_adapters_server.trainer.spec import TrainSpec

_PREFIX = "winner/"


@dataclass(frozen=True)
class Winner:
    """The weights of the best candidate so far, and the job's step that they are of."""

    candidate: int
    best_step: int
    weights: dict[str, torch.Tensor]

    def restore(self, parameters: Mapping[str, torch.Tensor]) -> None:
        """Gives an adapter these weights."""
        with torch.no_grad():
            for name, value in self.weights.items():
                parameters[name].copy_(value)


class Schedule:
    """The runs of a job, in their order.

    Attributes:
        runs: All of them.
        index: Which one is under way, from 0.
        winner: The best candidate's weights, where several candidates are tried without folds.
    """

    def __init__(self, spec: TrainSpec, rows: Sequence[Row]) -> None:
        """Plans the runs.

        Args:
            spec: Of the job.
            rows: To train on. First the training samples'; what comes after them is in every run, and never inner rows.
        """
        self._rows = rows
        self._training, own = spec.training, len(spec.training_samples)
        self._picked_out = frozenset(spec.picked_out)
        others = tuple(range(own, len(rows)))
        planned = plan_runs(own, spec.inner or (), spec.training)
        self.runs = [replace(run, rows=(*run.rows, *others)) for run in planned]
        self.index = 0
        self.winner: Winner | None = None
        self._results: list[RunResult] = []
        self._share = 1.0

    @property
    def more(self) -> bool:
        """Whether there are runs left."""
        return self.next < len(self.runs)

    @property
    def next(self) -> int:
        """The run after the one under way, from 0; those of a candidate that is out are passed over."""
        return max(self.index + 1, len(self._results))

    @property
    def closed(self) -> bool:
        """Whether the run under way has been closed: a checkpoint may come between that and the next run."""
        return len(self._results) > self.index

    @property
    def dropped(self) -> bool:
        """Whether the candidate of the run under way is out of the running."""
        return self.closed and self._results[self.index].loss is None

    @property
    def steps_before(self) -> int:
        """Steps planned for the runs before this one."""
        return sum(_steps(run) for run in self.runs[: self.index])

    @property
    def total_steps(self) -> int:
        """Steps planned for all runs; the last one after folds may end before all of its own."""
        last = self.last_step(_steps(self.runs[-1])) if self.runs[self.index].last else _steps(self.runs[-1])
        return sum(_steps(run) for run in self.runs[:-1]) + last

    @property
    def temperature(self) -> tuple[float, int, bool]:
        """The temperature, the rows it was fitted on, and whether they were predicted in folds."""
        return temperature_of(self._results) if self._results else (1.0, 0, False)

    def open(self, index: int) -> Run:
        """Begins a run. The last one after folds gets the best candidate's settings."""
        self.index = index
        if self.runs[index].last:
            self.runs[index], self._share = final_run(self.runs[index], self._training, self._results)
        return self.runs[index]

    def last_step(self, planned: int) -> int:
        """The step after which the run under way ends at the latest."""
        return max(1, round(self._share * planned)) if self.runs[self.index].last else planned

    def close(
        self,
        probabilities: Sequence[Triple],
        best_share: float,
        parameters: Mapping[str, torch.Tensor],
    ) -> None:
        """Ends a run.

        Args:
            probabilities: Of its inner rows, under its best step's weights.
            best_share: The best step's share of the planned ones.
            parameters: The adapter's, with the best step's weights.
        """
        run = self.runs[self.index]
        inner = [self._rows[row] for row in run.inner]
        labels, weights = [row.label for row in inner], [row.weight for row in inner]
        # A version gets a temperature anyway: being too sure of itself should not make a setting look worse.
        temperature = fit_temperature(probabilities, labels, weights)
        self._results.append(
            RunResult(
                candidate=run.candidate,
                best_share=best_share,
                loss=compute_metrics(at_temperature(probabilities, temperature), labels, weights=weights).loss,
                rows=len(labels),
                probabilities=list(probabilities),
                labels=labels,
                weights=tuple(weights),
                picked_out=tuple(row in self._picked_out for row in run.inner),
            )
        )
        candidates = {one.candidate for one in self.runs}
        folded = any(one.last for one in self.runs)
        if len(candidates) > 1 and not folded and best_candidate(self._results) == run.candidate:
            best = self.steps_before + round(best_share * _steps(run))
            kept = {name: value.detach().cpu().clone() for name, value in parameters.items()}
            self.winner = Winner(run.candidate, best, kept)

    def drop(self, error: TrainerError) -> TrainerWarning | None:
        """Takes the candidate of the run under way out of the running; None if the job fails of the error.

        It does of any but a loss that is not finite, where no candidate is left, and in the last run after folds.
        """
        run = self.runs[self.index]
        left = {one.candidate for one in self.runs} - candidates_out(self._results) - {run.candidate}
        if error.reason != "LOSS_NOT_FINITE" or run.last or not left:
            return None
        gone = sum(one.candidate == run.candidate and not one.last for one in self.runs[self.index :])
        broken = RunResult(candidate=run.candidate, best_share=0, loss=None, rows=0, probabilities=[], labels=[])
        self._results += [broken] * gone
        return TrainerWarning(
            reason="CANDIDATE_DROPPED",
            message=f"In {run.name}, {error.message}. This candidate is out of the running, and the job goes on with "
            "the others.",
        )

    def summary(self) -> tuple[RunSummary, ...]:
        """What became of each run, for training.json."""
        best = best_candidate(self._results) if self._results else 0
        return tuple(
            RunSummary(
                name=run.name,
                epochs=run.training.epochs,
                learning_rate=run.training.learning_rate,
                rows=len(run.rows),
                inner_rows=result.rows if result else 0,
                inner_loss=result.loss if result else None,
                best_share=result.best_share if result else self._share,
                chosen=run.candidate == best,
            )
            for run, result in zip(
                self.runs, [*self._results, *[None] * (len(self.runs) - len(self._results))], strict=True
            )
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a checkpoint keeps beside numbers()."""
        return {f"{_PREFIX}{name}": value for name, value in self.winner.weights.items()} if self.winner else {}

    def numbers(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON."""
        return {
            "index": self.index,
            "results": [result.model_dump(mode="json") for result in self._results],
            "winner": [self.winner.candidate, self.winner.best_step] if self.winner else None,
        }

    def restore(self, tensors: Mapping[str, torch.Tensor], numbers: Mapping[str, Any]) -> None:
        """Goes back to what tensors() and numbers() gave."""
        self.index = int(numbers["index"])
        self._results = [RunResult.model_validate(result) for result in numbers["results"]]
        if numbers["winner"]:
            candidate, best_step = numbers["winner"]
            weights = {name.removeprefix(_PREFIX): value for name, value in tensors.items() if name.startswith(_PREFIX)}
            self.winner = Winner(candidate, best_step, weights)


def _steps(run: Run) -> int:
    # As training_order() makes them: every step is full but the last of all.
    return -(-len(run.rows) * run.training.epochs // run.training.batch_size)
