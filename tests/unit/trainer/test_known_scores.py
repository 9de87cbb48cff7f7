"""A set of rows that was scored once is not computed again, and what is said of it is the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lyra_adapters_server.trainer import known_scores
from lyra_adapters_server.trainer import score as scoring
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.events import Scored
from lyra_adapters_server.trainer.known_scores import KnownScores
from lyra_adapters_server.trainer.loop import train
from lyra_adapters_server.trainer.score import score
from lyra_adapters_server.trainer.spec import ScoreSpec, TrainSpec
from lyra_adapters_server.types import LABELS, AdapterRef, LoraConfig, Sample, TrainingConfig

BASE = AdapterRef(name="base", base_alias="tiny")


def samples(first: int, count: int) -> tuple[Sample, ...]:
    words = ("yes", "no", "maybe")
    return tuple(
        Sample(
            id=str(index),
            premise=f"cats {words[index % 3]} {index}",
            hypothesis="dogs",
            correct_label=LABELS[index % 3],
        )
        for index in range(first, first + count)
    )


HELD_OUT = samples(20, 6)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each micro-batch had that was computed for scores."""
    found: list[int] = []
    compute = scoring._score_batch

    def counted(base: Any, subject: Any, rows: Any, exact: bool) -> Any:
        found.append(len(rows))
        return compute(base, subject, rows, exact)

    monkeypatch.setattr(scoring, "_score_batch", counted)
    return found


def trained(output: Path, bases: Bases, **changes: Any) -> AdapterRef:
    spec: dict[str, Any] = {
        "job_id": "job",
        "base_alias": "tiny",
        "training_samples": samples(0, 20),
        "validation_samples": HELD_OUT,
        "inner": ((0, 1, 2, 3, 4, 5),),
        "lora": LoraConfig(rank=4),
        "training": TrainingConfig(epochs=2, batch_size=4, learning_rate=1e-2),
        "champion": BASE,
        "output_dir": str(output),
    }
    list(train(TrainSpec.model_validate(spec | changes), bases))
    return AdapterRef(name="mine", base_alias="tiny", directory=str(output))


def scored(subject: AdapterRef, rows: tuple[Sample, ...], bases: Bases) -> Scored:
    (found,) = [one for one in score(ScoreSpec(subject=subject, samples=rows), bases) if isinstance(one, Scored)]
    return found


def test_the_gate_asks_for_what_training_has_computed(
    tiny_bases: Callable[[str], Bases], tmp_path: Path, batches: list[int]
) -> None:
    warm = tiny_bases("llama")
    adapter = trained(tmp_path / "a", warm)
    known = len(batches)
    assert known
    champion, challenger = scored(BASE, HELD_OUT, warm), scored(adapter, HELD_OUT, warm)
    assert len(batches) == known
    fresh = tiny_bases("llama")
    assert (champion, challenger) == (scored(BASE, HELD_OUT, fresh), scored(adapter, HELD_OUT, fresh))
    assert len(batches) > known
    assert champion.probabilities != challenger.probabilities
    # The next job's champion is a copy of it under another name, as publication makes one.
    known = len(batches)
    copy = AdapterRef(name="mine_v1", base_alias="tiny", directory=str(shutil.copytree(tmp_path / "a", tmp_path / "b")))
    assert scored(copy, HELD_OUT, warm) == challenger
    assert len(batches) == known


def test_what_differs_is_computed(tiny_bases: Callable[[str], Bases], tmp_path: Path, batches: list[int]) -> None:
    bases = tiny_bases("llama")
    adapter = trained(tmp_path / "a", bases)
    first = scored(adapter, HELD_OUT, bases)
    known = len(batches)
    # Other rows, other weights, another prompt.
    scored(adapter, HELD_OUT[:-1], bases)
    assert len(batches) > known
    other = trained(tmp_path / "b", bases, training=TrainingConfig(epochs=2, batch_size=4, seed=1))
    assert scored(other, HELD_OUT, bases).probabilities != first.probabilities
    known = len(batches)
    path = tmp_path / "a" / "prompt.json"
    prompt = json.loads(path.read_text())
    path.write_text(json.dumps({**prompt, "template": "Claim {hypothesis} {premise} Answer"}))
    assert scored(adapter, HELD_OUT, bases).probabilities != first.probabilities
    assert len(batches) > known
    # Another scale of the same weights.
    path.write_text(json.dumps(prompt))
    config = tmp_path / "a" / "adapter_config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps({**content, "lora_alpha": 2 * content["lora_alpha"]}))
    known = len(batches)
    assert scored(adapter, HELD_OUT, bases).probabilities != first.probabilities
    assert len(batches) > known


def test_a_temperature_is_applied_to_what_is_known(
    tiny_bases: Callable[[str], Bases], tmp_path: Path, batches: list[int]
) -> None:
    bases = tiny_bases("llama")
    adapter = trained(tmp_path / "a", bases)
    path = tmp_path / "a" / "prompt.json"
    prompt = json.loads(path.read_text())
    found = []
    for temperature in (1.0, 3.0):
        path.write_text(json.dumps({**prompt, "temperature": temperature}))
        known = len(batches)
        found.append(scored(adapter, HELD_OUT, bases).probabilities)
        assert len(batches) == known
        assert found[-1] == scored(adapter, HELD_OUT, tiny_bases("llama")).probabilities
    assert max(found[0][0]) > max(found[1][0])


def test_the_least_recently_used_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_scores, "MOST_ROWS", 5)
    known = KnownScores()
    row = (0.5, 0.25, 0.25)
    known.keep("a", [row] * 2)
    known.keep("b", [row] * 2)
    assert known.find("a") == [row] * 2
    known.keep("c", [row] * 2)
    assert known.find("b") is None
    assert known.find("a")
    assert known.find("c")
