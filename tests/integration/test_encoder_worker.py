"""Encoders through the trainer's process: random ones of each family, and a real one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lyra_adapters_server.trainer.spec import BaseModelConfig, ClassifySpec, ScoreSpec, TrainSpec, WorkerConfig
from lyra_adapters_server.types import LABELS, AdapterRef, Label, LoraConfig, Pair, Sample, TrainingConfig
from tiny_encoders import ENCODERS, make_tiny_encoder, minilm_directory
from trainer_process import TrainerProcess

# PEFT asks transformers by a name that it is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

ANIMALS = ("cats", "dogs", "foxes", "horses", "owls", "bees", "cows", "frogs")


def samples(count: int, prefix: str) -> tuple[Sample, ...]:
    """Rows whose premise says outright whether the hypothesis holds."""
    found = []
    for index in range(count):
        animal, label = ANIMALS[index % len(ANIMALS)], LABELS[index % 3]
        premise = {
            Label.SUPPORTS: f"Group {index}: it is true that {animal} sleep at night.",
            Label.REFUTES: f"Group {index}: it is false that {animal} sleep at night.",
            Label.NEUTRAL: f"Group {index}: nobody measured anything about sleep.",
        }[label]
        hypothesis = f"The {animal} sleep."
        found.append(Sample(id=f"{prefix}{index}", premise=premise, hypothesis=hypothesis, correct_label=label))
    return tuple(found)


def spec(alias: str, output: Path, **changes: Any) -> TrainSpec:
    fields: dict[str, Any] = {
        "job_id": "job",
        "base_alias": alias,
        "training_samples": samples(48, "t"),
        "validation_samples": samples(12, "v"),
        "lora": LoraConfig(),
        "training": TrainingConfig(epochs=1),
        "champion": AdapterRef(name="base", base_alias=alias),
        "output_dir": str(output),
        "progress_interval_s": 0.0,
    }
    return TrainSpec.model_validate(fields | changes)


def plain_probabilities(directory: Path, adapter: Path, rows: tuple[Sample, ...]) -> torch.Tensor:
    import peft
    import transformers

    prompt = json.loads((adapter / "prompt.json").read_text())
    model = transformers.AutoModelForSequenceClassification.from_pretrained(directory, num_labels=3)
    model = peft.PeftModel.from_pretrained(model, adapter).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    texts = [row.premise for row in rows], [row.hypothesis for row in rows]
    inputs = tokenizer(*texts, padding=True, truncation="only_first", max_length=128, return_tensors="pt")
    with torch.inference_mode():
        logits = model(**inputs).logits[:, [prompt["label_indices"][label] for label in LABELS]]
    return torch.softmax(logits, dim=1)


def test_every_family_on_one_worker_beside_a_broken_base(tmp_path: Path) -> None:
    directories = {
        **{family: make_tiny_encoder(tmp_path / family, family) for family in ENCODERS},
        **{f"plain-{family}": make_tiny_encoder(tmp_path / f"plain-{family}", family, ()) for family in ENCODERS},
    }
    entries = [BaseModelConfig(alias="broken", source=str(tmp_path / "nothing"))]
    entries += [BaseModelConfig(alias=alias, source=str(directory)) for alias, directory in directories.items()]
    config = WorkerConfig(
        bases=tuple(entries), device="cpu", dtype="float32", threads=1, max_loaded_bases=2, cache_dir=str(tmp_path)
    )
    rows = samples(12, "v")
    pairs = tuple(Pair(premise=row.premise, hypothesis=row.hypothesis) for row in rows)
    with TrainerProcess(config) as trainer:
        for alias, directory in directories.items():
            output = tmp_path / f"{alias}_v1"
            trained = trainer.result(trainer.ask("train", spec(alias, output)))
            assert trained.metrics_before.samples == 12
            subject = AdapterRef(name="x_v1", base_alias=alias, directory=str(output))
            found = trainer.result(trainer.ask("classify", ClassifySpec(subject=subject, pairs=pairs, max_length=128)))
            expected = plain_probabilities(directory, output, rows)
            assert torch.allclose(torch.tensor(found.probabilities), expected, atol=1e-5), alias
        # A champion on another base is scored there.
        champion = AdapterRef(name="x_v1", base_alias="bert", directory=str(tmp_path / "bert_v1"))
        scored = trainer.result(trainer.ask("score", ScoreSpec(subject=champion, samples=rows)))
        trained = trainer.result(trainer.ask("train", spec("roberta", tmp_path / "other", champion=champion)))
        assert trained.metrics_before == scored.metrics
        error = trainer.until_done(trainer.ask("train", spec("broken", tmp_path / "no")))[-1].error
        assert error is not None
        assert error.reason == "BASE_MODEL_LOAD_FAILED"


@pytest.mark.model
@pytest.mark.timeout(300)
def test_a_real_encoder_learns(tmp_path: Path) -> None:
    directory = minilm_directory()
    entry = BaseModelConfig(alias="minilm", source=str(directory))
    config = WorkerConfig(bases=(entry,), dtype="float32", threads=1, cache_dir=str(tmp_path))
    with TrainerProcess(config) as trainer:
        wanted = spec(
            "minilm",
            tmp_path / "a",
            training=TrainingConfig(epochs=12, learning_rate=2e-3, patience=0),
            lora=LoraConfig(target_modules=("all-linear",)),
        )
        trained = trainer.result(trainer.ask("train", wanted))
        assert trained.metrics_before.accuracy == pytest.approx(1 / 3)
        assert trained.metrics_after.accuracy > 0.8
        assert trained.metrics_after.loss < trained.metrics_before.loss - 0.3
        rows = samples(12, "v")
        subject = AdapterRef(name="x_v1", base_alias="minilm", directory=str(tmp_path / "a"))
        scored = trainer.result(trainer.ask("score", ScoreSpec(subject=subject, samples=rows)))
        assert scored.metrics == trained.metrics_after
        expected = plain_probabilities(directory, tmp_path / "a", rows)
        assert torch.allclose(torch.tensor(scored.probabilities), expected, atol=1e-4)
