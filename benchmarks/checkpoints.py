"""What checkpoints cost a training of the demo base: the same training with and without them, in turns.

    python benchmarks/checkpoints.py [--pairs 3] [--steps 1] [--output docs/results/checkpoints.md]

Writes a checkpoint every few steps, far more often than a server does, so that the cost shows; what it comes to at the
default of one in 30 seconds is computed from the time that a single one took. Takes about three minutes on two cores
that have nothing else to do.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from lyra_adapters_server.config import Settings
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.loop import train
from lyra_adapters_server.trainer.spec import BaseModelConfig, CheckpointRules, TrainSpec, WorkerConfig
from lyra_adapters_server.types import LABELS, AdapterRef, LoraConfig, Sample, TrainingConfig
from real_data import ROOT, cpu_name

ROWS, EPOCHS = 48, 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1, help="steps between two checkpoints")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/lyra-adapters").expanduser())
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results" / "checkpoints.md")
    arguments = parser.parse_args()
    base = BaseModelConfig(alias="demo", source="demo")
    bases = Bases(WorkerConfig(bases=(base,), cache_dir=str(arguments.cache)))
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        report = measure(Path(folder), bases, arguments.pairs, arguments.steps)
    arguments.output.write_text(report, encoding="utf-8")
    print(report)
    return 0


def measure(work: Path, bases: Bases, pairs: int, every: int) -> str:
    """Trains in turns and returns the report in Markdown."""
    train_once(work / "warm", bases, 0)
    with_them, without, checkpoints = [], [], []
    for number in range(pairs):
        without.append(train_once(work / f"without-{number}", bases, 0)[-1].training_seconds)
        events = train_once(work / f"with-{number}", bases, every)
        with_them.append(events[-1].training_seconds)
        checkpoints += [event for event in events if event.kind == "checkpointed"]
    each = [one.seconds for one in checkpoints]
    interval = Settings.model_fields["checkpoint_seconds"].default
    median = statistics.median(each)
    return f"""# What checkpoints cost

`python benchmarks/checkpoints.py` on {platform.machine()} with {os.cpu_count()} cores ({cpu_name()}), torch
{torch.__version__}, no GPU.

Base: demo (SmolLM2-135M-Instruct), rank 8, {ROWS} rows, {len(checkpoints) // pairs} checkpoints a training, {pairs}
pairs in turns.

| | median | least | most |
|---|---:|---:|---:|
| one checkpoint, synced to disk, ms | {median * 1e3:.0f} | {min(each) * 1e3:.0f} | {max(each) * 1e3:.0f} |
| training without checkpoints, s | {row(without)} |
| training with one every {every} steps, s | {row(with_them)} |

A checkpoint takes {checkpoints[-1].size_bytes / 2**20:.1f} MiB. At the default of one in {interval:g} s they take
{median / interval * 100:.2f} % of the time.
"""


def row(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.1f} | {min(seconds):.1f} | {max(seconds):.1f}"


def train_once(folder: Path, bases: Bases, every: int) -> list[Any]:
    """The events of a training with a checkpoint every so many steps; 0: none."""
    folder.mkdir()
    rules = CheckpointRules(directory=str(folder / "checkpoints"), steps=every, seconds=0) if every else None
    premise = "The trial enrolled patients in several hospitals and followed them for a year after they were treated. "
    spec = TrainSpec(
        job_id="benchmark",
        base_alias="demo",
        training_samples=tuple(
            Sample(
                id=str(number),
                premise=premise * (1 + number % 4),
                hypothesis=f"In cohort {number} mortality fell.",
                correct_label=LABELS[number % 3],
            )
            for number in range(ROWS)
        ),
        validation_samples=(),
        lora=LoraConfig(),
        training=TrainingConfig(epochs=EPOCHS),
        champion=AdapterRef(name="base", base_alias="demo"),
        output_dir=str(folder / "adapter"),
        checkpoints=rules,
    )
    return [event for event in train(spec, bases) if event is not None]


if __name__ == "__main__":
    raise SystemExit(main())
