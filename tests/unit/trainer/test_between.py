"""What is done between the layers of a training changes nothing about it, nor is changed by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.loop import train
from lyra_adapters_server.trainer.score import classify
from lyra_adapters_server.trainer.spec import BaseModelConfig, ClassifySpec, WorkerConfig
from lyra_adapters_server.types import AdapterRef, LoraConfig, Pair
from test_loop import BASE, digest, spec
from tiny_encoders import make_tiny_encoder

PAIRS = tuple(Pair(premise=f"cats sleep {n}", hypothesis="dogs run") for n in range(3))


@pytest.mark.parametrize("family", ["llama", "bert"])
@pytest.mark.parametrize(
    ("dtype", "exact", "upper_half"),
    [("float32", False, False), ("bfloat16", False, False), ("bfloat16", True, False), ("float32", False, True)],
)
def test_classify_in_the_midst_of_a_training(
    family: str, dtype: str, exact: bool, upper_half: bool, tiny_directory: Any, tmp_path: Path
) -> None:
    labels = ("entailment", "contradiction", "neutral")
    source = make_tiny_encoder(tmp_path / "base", "bert", labels) if family == "bert" else tiny_directory(family)
    calls: list[None] = []
    busy = False

    def between() -> None:
        nonlocal busy
        calls.append(None)
        # Now and then, in forward and in backward passes, and not in its own.
        if not busy and len(calls) % 3 == 0:
            busy = True
            seen.add((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
            found.append(probabilities(disturbed, subjects[len(found) % 2], exact))
            busy = False

    def bases(call: Any = None) -> Bases:
        config = BaseModelConfig(alias=BASE.base_alias, source=str(source))
        return Bases(
            WorkerConfig(bases=(config,), device="cpu", dtype=dtype, cache_dir=str(tmp_path)), between_layers=call
        )

    alone, disturbed = bases(), bases(between)
    training = {"lora": LoraConfig(rank=4, dropout=0.3, upper_half=upper_half)}
    list(train(spec(tmp_path / "other", **training), alone))
    subjects = [BASE, AdapterRef(name="x", base_alias="tiny", directory=str(tmp_path / "other"))]
    expected = [probabilities(alone, subject, exact) for subject in subjects]
    found: list[Any] = []
    seen: set[tuple[bool, bool]] = set()
    list(train(spec(tmp_path / "alone", **training), alone))
    list(train(spec(tmp_path / "disturbed", **training), disturbed))
    assert digest(tmp_path / "alone") == digest(tmp_path / "disturbed")
    assert seen == {(True, False), (False, False), (False, True)}, "forward, backward, scoring"
    assert all(one == expected[number % 2] for number, one in enumerate(found))
    assert expected[0] != expected[1]


def probabilities(bases: Bases, subject: AdapterRef, exact: bool) -> Any:
    asked = ClassifySpec(subject=subject, pairs=PAIRS, max_length=64)
    (event,) = (event for event in classify(asked, bases, exact) if event)
    return event.probabilities  # type: ignore[union-attr]  # classify gives no other event
