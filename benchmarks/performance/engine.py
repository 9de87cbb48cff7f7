"""Ours beside the peer: the service's own engine in a process of its own, in rounds (see speed.py).

    python benchmarks/performance/engine.py ROWS.jsonl --base SOURCE [--dtype bfloat16] …

It says {"ready": true} after its warm-up, with the seconds up to the end of the first step; each line on standard input
is a number of seconds to train for, and is answered with what was done in them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# As the worker does, before torch is imported.
from lyra_adapters_server.trainer.environment import set_environment

set_environment()

from lyra_adapters_server.trainer import loop, micro_batch
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.data import Batch
from lyra_adapters_server.trainer.devices import keep_freed_memory, use_threads
from lyra_adapters_server.trainer.events import TrainingProgress
from lyra_adapters_server.trainer.spec import BaseModelConfig, TrainSpec, WorkerConfig
from lyra_adapters_server.types import AdapterRef, Label, LoraConfig, Sample, TrainingConfig
from peer import peak_bytes, say


def main() -> None:
    arguments = read_arguments()
    keep_freed_memory()
    use_threads(arguments.threads)
    counted = count_tokens()
    with tempfile.TemporaryDirectory() as folder:
        steps = training(arguments, Path(folder))
        begin = time.monotonic()
        next(steps)
        first = time.monotonic() - begin
        for _ in range(arguments.warm_up - 1):
            next(steps)
        say({"ready": True, "first_step_s": first})
        for line in sys.stdin:
            begin, done = time.monotonic(), 0
            counted.clear()
            while time.monotonic() < begin + float(line):
                next(steps)
                done += 1
            seconds = time.monotonic() - begin
            say({"tokens": sum(counted), "seconds": seconds, "steps": done, "peak_bytes": peak_bytes()})


def read_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """What `training` takes; None: from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--base", default="demo")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/lyra-adapters").expanduser())
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--dropout", type=float, default=0.05)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--upper-half", action="store_true")
    return parser.parse_args(given)


def count_tokens() -> list[int]:
    """The tokens, without padding, of each micro-batch from now on."""
    counted: list[int] = []
    make_batch = micro_batch.make_batch

    def counting(*arguments: Any) -> Batch:
        batch = make_batch(*arguments)
        counted.append(batch.token_count)
        return batch

    # The engine tells tokens per second of computing; here the whole time counts, so it is counted from outside.
    micro_batch.make_batch = counting
    return counted


def training(arguments: argparse.Namespace, folder: Path) -> Iterator[None]:
    """Trains for as long as somebody asks for a next step."""
    lines = arguments.rows.read_text(encoding="utf-8").splitlines()
    samples = tuple(sample(number, json.loads(line)) for number, line in enumerate(lines) if line.strip())
    base = BaseModelConfig(alias="base", source=arguments.base)
    bases = Bases(WorkerConfig(bases=(base,), dtype=arguments.dtype, cache_dir=str(arguments.cache)))
    settings = TrainingConfig(
        epochs=1000, batch_size=arguments.batch, max_length=arguments.max_length, seed=arguments.seed
    )
    spec = TrainSpec(
        job_id="benchmark",
        base_alias="base",
        training_samples=samples,
        validation_samples=(),
        lora=LoraConfig(dropout=arguments.dropout, upper_half=arguments.upper_half),
        training=settings,
        inner=(),
        champion=AdapterRef(name="base", base_alias="base"),
        output_dir=str(folder),
        progress_interval_s=0.0,
    )
    for event in loop.train(spec, bases):
        if isinstance(event, TrainingProgress):
            yield


def sample(number: int, row: dict[str, Any]) -> Sample:
    """A row of the file as the engine takes it."""
    label = Label(row.get("label") or row["correct_label"])
    return Sample(id=str(number), premise=row["premise"], hypothesis=row["hypothesis"], correct_label=label)


if __name__ == "__main__":
    main()
