"""A real server whose worker only pretends to train, so that hundreds of jobs take seconds. Run as a program.

Everything but the training is real: gRPC, storage, files, publication. What a job comes to stands in its seed:
`quality + 1000 × script`, with the quality in thousandths of held-out rows that are right, and a Script.
"""

from __future__ import annotations

import asyncio
import json
import sys
import zlib
from collections.abc import AsyncGenerator
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy
from lyra_adapters_server.executors.base import WorkerDied, WorkFailed
from lyra_adapters_server.executors.local import LocalWorker
from lyra_adapters_server.trainer.events import (
    BaseChanged,
    Evaluated,
    FormatMade,
    Scored,
    Trained,
    TrainerEvent,
    TrainingProgress,
    TrainingStarted,
)
from lyra_adapters_server.trainer.spec import Plan, TrainSpec, WorkerConfig
from lyra_adapters_server.types import (
    LABELS,
    AdapterRef,
    BaseCard,
    BaseIdentity,
    BaseState,
    Label,
    Metrics,
    Prompt,
    Sample,
)
from safetensors.numpy import save_file

# What the bare base gets right, in thousandths.
BASE_QUALITY = 300


class Script(IntEnum):
    """How a training goes."""

    ENDS = 0
    # Goes on until it is cancelled or its server ends.
    STAYS = 1
    FAILS = 2
    WORKER_DIES = 3


def seed(quality: int, script: Script = Script.ENDS) -> int:
    """The seed that makes a training go so."""
    return quality + 1000 * script


PLAN = Plan(
    **dict.fromkeys(("device", "dtype", "kernels", "attention", "machine", "instructions"), "none"),
    **dict.fromkeys(("python", "torch", "transformers", "peft"), "0"),
    **dict.fromkeys(("threads", "train_token_budget", "score_token_budget"), 1),
)

COMMAND = (sys.executable, __file__)


class QuickWorker(LocalWorker):
    """In the place of the worker process."""

    def start(self) -> None:
        """Describes the base models; starts nothing."""
        self._config: WorkerConfig
        for base in self._config.bases:
            card = _card(base.alias)
            self._cards[base.alias] = card
            self._states[base.alias] = BaseChanged(alias=base.alias, state=BaseState.READY, card=card)

    async def stop(self) -> None:
        """Nothing to end."""

    async def _run(self, method: str, params: Any, *_: Any) -> AsyncGenerator[TrainerEvent, None]:
        if method == "train":
            async for event in _train(params):
                yield event
            return
        if method == "make_format":
            (Path(params.output_dir) / f"{params.subject.name}.{params.form.lower()}").write_text(params.subject.name)
            yield FormatMade()
            return
        if method not in ("score", "classify"):
            raise WorkFailed("FORMAT_NOT_AVAILABLE", "What only pretends to train has no weights to convert.")
        if method == "score":
            probabilities = [_probabilities(_quality(params.subject), sample) for sample in params.samples]
        else:
            probabilities = [(0.5, 0.25, 0.25)] * len(params.pairs)
        yield Scored(metrics=None, probabilities=probabilities, truncated=[False] * len(probabilities))


async def _train(spec: TrainSpec) -> AsyncGenerator[TrainerEvent, None]:
    script, quality = divmod(spec.training.seed, 1000)
    steps = spec.training.epochs
    held_out = len(spec.validation_samples)
    before = _metrics(_quality(spec.champion), held_out)
    yield TrainingStarted(
        training_samples=len(spec.training_samples),
        validation_samples=held_out,
        total_steps=steps,
        device="none",
        dtype="none",
        trainable_parameters=1,
        plan=PLAN,
    )
    yield Evaluated(stage="BEFORE", subject=spec.champion.name, metrics=before, step=0)
    step = 0
    while step < steps or script == Script.STAYS:
        step = min(step + 1, steps)
        yield TrainingProgress(
            step=step,
            total_steps=steps,
            epoch=step,
            loss=1 / step,
            learning_rate=spec.training.learning_rate,
            tokens_per_second=1000.0,
            fraction_done=step / steps,
            eta_s=float(steps - step),
        )
        await asyncio.sleep(0.05 if script == Script.STAYS else 0.001)
    if script == Script.FAILS:
        raise WorkFailed("LOSS_NOT_FINITE", "The loss is no number; a lower learning_rate may help.")
    if script == Script.WORKER_DIES:
        raise WorkerDied("the trainer process has ended")
    output = Path(spec.output_dir)
    save_file({"quality": numpy.array([quality], dtype=numpy.float32)}, output / "adapter_model.safetensors")
    (output / "adapter_config.json").write_text("{}")
    (output / "prompt.json").write_text(json.dumps({"quality": quality}))
    after = _metrics(quality, held_out)
    yield Evaluated(stage="AFTER", subject="", metrics=after, step=steps)
    yield Trained(
        metrics_before=before if held_out else None,
        metrics_after=after if held_out else None,
        best_step=steps,
        steps=steps,
        stopped_early=False,
        truncated_samples=0,
        training_seconds=0.001 * steps,
        plan=PLAN,
    )


def _quality(subject: AdapterRef) -> int:
    if not subject.directory:
        return BASE_QUALITY
    return int(json.loads((Path(subject.directory) / "prompt.json").read_text())["quality"])


def _probabilities(quality: int, sample: Sample) -> tuple[float, float, float]:
    """Right on a share of rows that grows with the quality: whatever is right stays right."""
    label = LABELS.index(sample.correct_label)
    right = zlib.crc32(sample.id.encode()) % 1000 < quality
    said = label if right else (label + 1) % 3
    first, second, third = (0.9 if index == said else 0.05 for index in range(3))
    return first, second, third


def _metrics(quality: int, samples: int) -> Metrics:
    share = quality / 1000
    return Metrics(
        samples=samples, accuracy=share, macro_f1=share, brier=1 - share, loss=1 - share, confusion=[[samples] * 3] * 3
    )


def _card(alias: str) -> BaseCard:
    words = {Label.SUPPORTS: " yes", Label.REFUTES: " no", Label.NEUTRAL: " maybe"}
    return BaseCard(
        alias=alias,
        identity=BaseIdentity(id=alias, digest="0" * 64),
        architecture="None",
        parameters=1,
        max_length=512,
        linear_modules={"q_proj": (16, 16), "v_proj": (16, 16), "up_proj": (64, 32)},
        default_target_modules=("q_proj", "v_proj"),
        prompt=Prompt(name="words", template="{premise} {hypothesis}", label_words=words),
        label_token_ids={label: number for number, label in enumerate(words)},
        device="none",
        dtype="none",
    )


if __name__ == "__main__":
    from lyra_adapters_server.service import main

    for name in ("start", "stop", "_run"):
        setattr(LocalWorker, name, getattr(QuickWorker, name))
    sys.exit(main.main())
