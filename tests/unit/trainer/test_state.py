from collections.abc import Callable
from typing import Any

import pytest
import torch
from lyra_adapters_server.trainer.bases import Base, Bases
from lyra_adapters_server.trainer.learning_rate import learning_rate_at, usual_peak
from lyra_adapters_server.trainer.lora import Adapter, new_config
from lyra_adapters_server.trainer.state import TrainState
from lyra_adapters_server.types import LoraConfig, Metrics, TrainingConfig


def metrics(loss: float) -> Metrics:
    return Metrics(samples=1, accuracy=0, macro_f1=0, brier=0, loss=loss, confusion=[[0] * 3] * 3)


def new_state(base: Base) -> TrainState:
    adapter = Adapter(base.model, new_config(LoraConfig(rank=2), ("q_proj",), base.card.identity))
    adapter.initialise(0)
    return TrainState(adapter, TrainingConfig())


def step(state: TrainState, number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    for parameter in state.adapter.parameters.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    state.update(1e-2, 1.0)


def weights(state: TrainState) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in state.adapter.parameters.values()]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_goes_on_from_what_was_saved_bit_for_bit(tiny_bases: Callable[[str], Bases]) -> None:
    base = tiny_bases("llama").get("tiny")
    state = new_state(base)
    for number in range(3):
        step(state, number)
    state.note(metrics(0.5), [0.4, 0.6])
    best = weights(state)
    step(state, 3)
    state.note(metrics(0.7), [0.6, 0.8])
    tensors = {name: value.clone() for name, value in state.tensors().items()}
    numbers: dict[str, Any] = state.numbers()
    step(state, 4)

    other = new_state(base)
    other.restore(tensors, numbers)
    step(other, 4)
    assert equal(weights(state), weights(other))
    assert other.numbers() == state.numbers()
    assert (other.best_step, other.evaluations_without_gain) == (3, 1)
    other.restore_best()
    assert equal(weights(other), best)


def test_a_fresh_state_is_saved_and_restored_too(tiny_bases: Callable[[str], Bases]) -> None:
    base = tiny_bases("llama").get("tiny")
    state, other = new_state(base), new_state(base)
    other.restore(state.tensors(), state.numbers())
    step(state, 0)
    step(other, 0)
    assert equal(weights(state), weights(other))


def test_the_best_step_is_the_last_that_is_not_clearly_worse(tiny_bases: Callable[[str], Bases]) -> None:
    state = new_state(tiny_bases("llama").get("tiny"))

    def note(losses: list[float]) -> bool:
        state.step += 1
        return state.note(metrics(sum(losses) / len(losses)), losses)

    assert note([1.0, 1.0, 1.0])
    assert note([0.5, 0.6, 0.4])
    # Higher by 0.1 on the mean, but one row says so and two do not.
    assert note([1.0, 0.5, 0.3])
    assert (state.best_step, state.evaluations_without_gain) == (3, 1)
    # Each row says that it is worse than the lowest; that it is near the one before it counts for nothing.
    assert not note([0.6, 0.7, 0.5])
    assert not note([0.5, 0.6, 0.4])
    assert (state.best_step, state.evaluations_without_gain) == (3, 3)
    assert note([0.4, 0.5, 0.3])
    assert (state.best_step, state.evaluations_without_gain) == (6, 0)


def test_the_rate_rises_then_falls() -> None:
    rates = [learning_rate_at(step, 10, 1.0, 0.2) for step in range(1, 11)]
    assert rates[:2] == [0.5, 1.0]
    assert rates[2:] == pytest.approx([8 / 9, 7 / 9, 6 / 9, 5 / 9, 4 / 9, 3 / 9, 2 / 9, 1 / 9])
    assert learning_rate_at(1, 5, 1.0, 0.0) == pytest.approx(5 / 6)
    assert learning_rate_at(5, 5, 1.0, 1.0) == 1.0


@pytest.mark.parametrize(
    ("width", "encoder", "continued", "expected"),
    [
        (576, False, False, 2e-3),
        (576, False, True, 1e-3),
        (2048, False, False, 7.4e-4),
        (384, True, False, 9.1e-4),
        (1024, True, True, 2.1e-4),
        (16, False, False, 3e-3),
    ],
)
def test_wide_models_encoders_and_what_is_gone_on_from_get_a_lower_peak(
    width: int, encoder: bool, continued: bool, expected: float, tiny_bases: Callable[[str], Bases]
) -> None:
    card = tiny_bases("llama").get("tiny").card
    name = card.default_target_modules[0]
    modules, prompt = {**card.linear_modules, name: (8, width)}, None if encoder else card.prompt
    wide = card.model_copy(update={"linear_modules": modules, "prompt": prompt})
    assert usual_peak(wide, continued=continued) == expected
