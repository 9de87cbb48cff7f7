"""Answering as before: recombined pairs, and a version that keeps more of what its parent said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.data import encode_pairs, make_batch
from lyra_adapters_server.trainer.distillation import recombine
from lyra_adapters_server.trainer.events import Scored, Trained
from lyra_adapters_server.trainer.heads import summed_loss
from lyra_adapters_server.trainer.loop import train
from lyra_adapters_server.trainer.score import score
from lyra_adapters_server.trainer.spec import ScoreSpec, TrainSpec
from lyra_adapters_server.trainer.training_rows import TrainingRows
from lyra_adapters_server.types import LABELS, AdapterRef, Label, LoraConfig, Sample, TrainingConfig

BASE = AdapterRef(name="base", base_alias="tiny")
PARENT = TrainingConfig(epochs=10, batch_size=4, learning_rate=1e-2)


def rows(count: int, documents: int, label: Label = Label.SUPPORTS) -> list[Sample]:
    return [
        Sample(
            id=f"r{number}",
            premise=f"The {number} sparrows of garden {number} sang.",
            hypothesis=f"Garden {number} had sparrows.",
            correct_label=label,
            group=f"document {number % documents}",
        )
        for number in range(count)
    ]


def test_pairs_are_new_and_of_different_documents() -> None:
    samples = rows(30, 10)
    pairs = recombine(samples, 60, seed=3)
    assert len(pairs) == len(set(pairs)) == 60
    premises = {sample.premise: sample for sample in samples}
    hypotheses = {sample.hypothesis: sample for sample in samples}
    assert all(premises[pair.premise].group != hypotheses[pair.hypothesis].group for pair in pairs)
    # Every premise is used about as often.
    assert all(1 <= sum(pair.premise == premise for pair in pairs) <= 3 for premise in premises)
    assert pairs == recombine(samples, 60, seed=3) != recombine(samples, 60, seed=4)


def test_at_first_pairs_speak_of_their_premise() -> None:
    about = ["owls hunt at night", "rivers carry silt", "bees dance for nectar", "glaciers grind rock"]
    samples = [
        Sample(id=str(n), premise=f"In case {n} {text}", hypothesis=f"{text} {n}", correct_label=LABELS[0])
        for n, text in enumerate(about * 3)
    ]
    pairs = recombine(samples, len(samples), seed=0)
    shared = [len(set(pair.premise.split()) & set(pair.hypothesis.split())) >= 3 for pair in pairs]
    assert all(shared)


@pytest.mark.parametrize("samples", [[], rows(1, 1), rows(8, 1)], ids=["none", "one row", "one document"])
def test_without_other_documents_there_are_no_pairs(samples: list[Sample]) -> None:
    assert recombine(samples, 10, seed=0) == []


def test_few_rows_have_few_pairs() -> None:
    assert 1 <= len(recombine(rows(2, 2), 50, seed=0)) <= 2


def test_rows_with_targets_and_with_labels_share_a_batch(tiny_bases: Callable[[str], Bases], tmp_path: Path) -> None:
    base = tiny_bases("llama").get("tiny")
    data = TrainingRows(spec(tmp_path, None, distillation=1), base, 64)
    data.know([(0.2, 0.5, 0.3)] * data.distilled)
    labelled, distilled = data.all[0], data.all[-1]
    batch = make_batch([labelled, distilled], base.padding, base.device)
    assert batch.targets is not None
    torch.testing.assert_close(batch.targets, torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.5, 0.3]]))
    logits = torch.tensor([[0.3, -1.0, 0.2], [2.0, 0.1, -0.4]])
    logs = torch.log_softmax(logits, -1)
    torch.testing.assert_close(summed_loss(logits, batch.targets), -(logs[0, 0] + (logs[1] * batch.targets[1]).sum()))
    assert make_batch([labelled], base.padding, base.device).targets is None


def spec(directory: Path, parent: AdapterRef | None, **training: float) -> TrainSpec:
    return TrainSpec(
        job_id="job",
        base_alias="tiny",
        training_samples=tuple(rows(24, 12, Label.SUPPORTS if parent is None else Label.REFUTES)),
        validation_samples=(),
        lora=LoraConfig(rank=4, dropout=0),
        training=PARENT.model_copy(update=training),
        inner=(),
        champion=BASE,
        continue_from=parent,
        output_dir=str(directory),
    )


def test_a_version_that_answers_as_before_keeps_more_of_what_its_parent_said(
    tiny_bases: Callable[[str], Bases], tmp_path: Path
) -> None:
    bases = tiny_bases("llama")
    list(train(spec(tmp_path / "parent", None), bases))
    parent = AdapterRef(name="x_v1", base_alias="tiny", directory=str(tmp_path / "parent"))

    def answers(directory: Path, asked: list[Sample]) -> torch.Tensor:
        subject = AdapterRef(name="y_v1", base_alias="tiny", directory=str(directory))
        (found,) = filter(None, score(ScoreSpec(subject=subject, samples=tuple(asked)), bases))
        assert isinstance(found, Scored)
        return torch.tensor(found.probabilities)

    # Of documents that are in no row.
    others = [row.model_copy(update={"premise": f"{row.premise} It rained."}) for row in rows(40, 40)[24:]]
    strayed = {}
    for ratio in (0.0, 4.0):
        directory = tmp_path / str(ratio)
        trained = list(train(spec(directory, parent, distillation=ratio, epochs=4), bases))[-1]
        assert isinstance(trained, Trained)
        assert trained.distilled_pairs == round(24 * ratio)
        # 24 rows and their pairs in batches of 4.
        assert trained.steps == 4 * 24 * (1 + ratio) / 4
        strayed[ratio] = float((answers(directory, others) - answers(tmp_path / "parent", others)).abs().mean())
    assert strayed[4.0] < 0.75 * strayed[0.0]


@pytest.mark.parametrize("asks", ["", "Is this so? "], ids=["the same prompt", "another prompt"])
def test_targets_are_what_the_parent_says(tiny_bases: Callable[[str], Bases], tmp_path: Path, asks: str) -> None:
    bases = tiny_bases("llama")
    list(train(spec(tmp_path / "parent", None), bases))
    parent = AdapterRef(name="x_v1", base_alias="tiny", directory=str(tmp_path / "parent"))
    # The parent's prompt is its own, whatever the base's is by now.
    prompt = tmp_path / "parent" / "prompt.json"
    content = json.loads(prompt.read_text())
    prompt.write_text(json.dumps({**content, "template": asks + content["template"]}))
    wanted = spec(tmp_path / "child", parent, distillation=1, epochs=1)
    base = bases.get("tiny")
    pairs = recombine(wanted.training_samples, 24, seed=0)
    assert [row.tokens for row in encode_pairs(pairs, base.encoder, 512)] == [
        row.tokens for row in TrainingRows(wanted, base, 512).all[24:]
    ]
    asked = [Sample(id="", premise=p.premise, hypothesis=p.hypothesis, correct_label=LABELS[0]) for p in pairs]
    (said,) = filter(None, score(ScoreSpec(subject=parent, samples=tuple(asked)), bases))
    # What was asked here must not be what is found.
    base.known_scores._sets.clear()
    list(train(wanted, bases))
    assert isinstance(said, Scored)
    assert [found for found in base.known_scores._sets.values() if found == said.probabilities]
