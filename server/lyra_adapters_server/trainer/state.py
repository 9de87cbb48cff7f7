"""Everything a training run changes as it goes, as one object that can be saved and restored."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lyra_adapters_server.trainer.lora import Adapter
from lyra_adapters_server.types import Metrics, TrainingConfig

_MOMENTS = ("exp_avg", "exp_avg_sq")


class TrainState:
    """The state between two optimizer steps.

    The order of the rows, the dropout masks and the learning rate are functions of the seed and the step, so the step
    is all there is to keep of them.

    Attributes:
        step: Optimizer steps done.
        best_step: The best one so far (see note()); 0 before the first evaluation.
        best_metrics: That step's.
        evaluations_without_gain: Evaluations since the one with the lowest loss.
        evaluated_step: The step of the last evaluation; 0 before the first.
        seconds: Time spent training and evaluating.
    """

    def __init__(self, adapter: Adapter, training: TrainingConfig) -> None:
        """Starts at step 0 with the adapter as it is."""
        self.adapter = adapter
        self.optimizer = torch.optim.AdamW(
            list(adapter.parameters.values()),
            lr=training.learning_rate,
            weight_decay=training.weight_decay,
            # One pass over all weights: an adapter has hundreds of small ones.
            fused=True,
        )
        self.step = 0
        self.best_step = 0
        self.best_metrics: Metrics | None = None
        self.evaluations_without_gain = 0
        self.evaluated_step = 0
        self.seconds = 0.0
        self._best: dict[str, torch.Tensor] = {}
        # Each row's loss at the evaluation with the lowest.
        self._lowest: list[float] = []

    def update(self, learning_rate: float, max_grad_norm: float) -> float:
        """Does one optimizer step on the gradients gathered, and clears them. Returns their norm before clipping.

        Where it raises, as for want of memory, weights and moments are as they were.
        """
        parameters = list(self.adapter.parameters.values())
        # Small, and taken when a step's activations are gone; the optimizer stops in the middle of the weights.
        before = {name: value.clone() for name, value in self._moving().items()}
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        try:
            self.optimizer.step()
        except Exception:
            self._go_back(before)
            raise
        self.optimizer.zero_grad(set_to_none=False)
        self.step += 1
        return norm

    def discard_gradients(self) -> None:
        """Forgets what was gathered for the next step."""
        self.optimizer.zero_grad(set_to_none=False)

    def note(self, metrics: Metrics, losses: Sequence[float]) -> bool:
        """Takes an evaluation in, and keeps a copy of the weights if it is the best so far. Returns whether it is.

        The best is the last one whose loss is not above the lowest by more than the standard error of the difference
        (Breiman et al., 1984): steps after it were taken at a lower rate, and few rows say little of which is better.

        Args:
            metrics: At this step.
            losses: Of the rows that were scored, always the same ones; their mean is what is compared.
        """
        self.evaluated_step = self.step
        apart = [new - lowest for new, lowest in zip(losses, self._lowest or losses, strict=True)]
        above = statistics.fmean(apart)
        if not self._lowest or above < 0:
            self._lowest, self.evaluations_without_gain = list(losses), 0
        else:
            self.evaluations_without_gain += 1
            # Not equal to: what is as good as before in every row was not worth its steps.
            if len(apart) < 2 or above >= statistics.stdev(apart) / math.sqrt(len(apart)):
                return False
        self.best_step, self.best_metrics = self.step, metrics
        self._best = {name: value.detach().clone() for name, value in self.adapter.parameters.items()}
        return True

    def restore_best(self) -> None:
        """Gives the adapter the best step's weights; without an evaluation it keeps the last."""
        with torch.no_grad():
            for name, value in self._best.items():
                self.adapter.parameters[name].copy_(value)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Every tensor of the state, by a name that says what it is."""
        return self._moving() | {f"best/{name}": value for name, value in self._best.items()}

    def _moving(self) -> dict[str, torch.Tensor]:
        """What an optimizer step changes: the weights, and their moments once there are any."""
        found: dict[str, torch.Tensor] = {}
        for name, parameter in self.adapter.parameters.items():
            found[f"adapter/{name}"] = parameter.detach()
            for moment in _MOMENTS:
                if parameter in self.optimizer.state:
                    found[f"{moment}/{name}"] = self.optimizer.state[parameter][moment]
        return found

    def _go_back(self, before: Mapping[str, torch.Tensor]) -> None:
        """Undoes half an optimizer step. Takes no memory."""
        for name, parameter in self.adapter.parameters.items():
            parameter.detach().copy_(before[f"adapter/{name}"])
            if f"{_MOMENTS[0]}/{name}" not in before:
                self.optimizer.state.pop(parameter, None)
                continue
            state = self.optimizer.state[parameter]
            state["step"].fill_(self.step)
            for moment in _MOMENTS:
                state[moment].copy_(before[f"{moment}/{name}"])

    def numbers(self) -> dict[str, Any]:
        """The rest of the state, as JSON."""
        return {
            "step": self.step,
            "best_step": self.best_step,
            "best_metrics": self.best_metrics.model_dump(mode="json") if self.best_metrics else None,
            "evaluations_without_gain": self.evaluations_without_gain,
            "evaluated_step": self.evaluated_step,
            "lowest": self._lowest,
            "seconds": self.seconds,
        }

    def restore(self, tensors: Mapping[str, torch.Tensor], numbers: Mapping[str, Any]) -> None:
        """Goes back to what `tensors()` and `numbers()` gave, for an adapter of the same layers."""
        with torch.no_grad():
            for name, parameter in self.adapter.parameters.items():
                parameter.copy_(tensors[f"adapter/{name}"])
                if f"{_MOMENTS[0]}/{name}" in tensors:
                    moments = {moment: tensors[f"{moment}/{name}"].to(parameter.device).clone() for moment in _MOMENTS}
                    step = torch.tensor(float(numbers["step"]), device=parameter.device)
                    self.optimizer.state[parameter] = {"step": step, **moments}
        self._best = {
            name: tensors[f"best/{name}"].clone() for name in self.adapter.parameters if f"best/{name}" in tensors
        }
        self.step = int(numbers["step"])
        self.best_step = int(numbers["best_step"])
        best = numbers["best_metrics"]
        self.best_metrics = Metrics.model_validate(best) if best else None
        self.evaluations_without_gain = int(numbers["evaluations_without_gain"])
        self.evaluated_step = int(numbers["evaluated_step"])
        self._lowest = list(numbers["lowest"])
        self.seconds = float(numbers["seconds"])
