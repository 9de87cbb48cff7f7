"""Whether what makes training fast costs accuracy: the same trainings in bfloat16, and in float32.

    python benchmarks/performance/accuracy.py [--case encoder] [--count 200] [--seeds 5] [--test 494]

For each seed the service's own engine trains one adapter in each way, from the same rows in the same order, and scores
it on rows that none has seen, in the same way again. In float32 the engine follows PEFT's loss curve
(tests/unit/trainer/test_curve.py), so that stands for what Trainer and PEFT learn. Ten minutes for the
encoder, three quarters of an hour for the demo base with 100 corrections and 247 rows.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
from pathlib import Path

# As the worker does, before torch is imported.
from lyra_adapters_server.trainer.environment import set_environment

set_environment()

from engine import sample
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.devices import keep_freed_memory, use_threads
from lyra_adapters_server.trainer.events import Scored
from lyra_adapters_server.trainer.kernels import ops
from lyra_adapters_server.trainer.loop import train
from lyra_adapters_server.trainer.score import score
from lyra_adapters_server.trainer.spec import BaseModelConfig, ScoreSpec, TrainSpec, WorkerConfig
from lyra_adapters_server.types import AdapterRef, LoraConfig, Metrics, Sample, TrainingConfig
from models import CACHE, CASES, find_model
from page import PAGE, write_section
from rows import DATA, corrections

TEST_FILES = ("scifact_dev.jsonl", "checkcovid_dev.jsonl")
# The number format, and whether compiled kernels are used.
WAYS = {
    "bfloat16, compiled kernels": ("bfloat16", True),
    "bfloat16, torch's functions": ("bfloat16", False),
    "float32": ("float32", False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, default="encoder")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--test", type=int, default=494)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    keep_freed_memory()
    use_threads(0)
    model, test = find_model(arguments.case), test_rows(arguments.data, arguments.test)
    found: dict[str, list[Metrics]] = {way: [] for way in WAYS}
    for seed in range(arguments.seeds):
        rows = corrections(arguments.data, arguments.count, seed)
        samples = tuple(sample(number, row) for number, row in enumerate(rows))
        for way, (dtype, compiled) in WAYS.items():
            with ops.using(compiled):
                metrics = learn(model.directory, dtype, samples, test, seed)
            print(f"seed {seed}, {way}: accuracy {metrics.accuracy:.3f}, loss {metrics.loss:.4f}", flush=True)
            found[way].append(metrics)
    exact = found["float32"]
    lines = [
        f"{model.title}, {arguments.count} corrections, the service's defaults but for what is held out (nothing), "
        f"{arguments.seeds} seeds, scored on {len(test)} rows of other documents. Mean ± standard deviation.",
        "",
        "| | accuracy | loss | accuracy less float32's, seed by seed | loss less float32's |",
        "| --- | --- | --- | --- | --- |",
    ]
    for way, metrics in found.items():
        gained = [one.accuracy - other.accuracy for one, other in zip(metrics, exact, strict=True)]
        lost = [one.loss - other.loss for one, other in zip(metrics, exact, strict=True)]
        cells = [shown([one.accuracy for one in metrics]), shown([one.loss for one in metrics])]
        lines.append(f"| {way} | {' | '.join([*cells, shown(gained, '+'), shown(lost, '+')])} |")
    command = f"python benchmarks/performance/accuracy.py --case {arguments.case} --count {arguments.count}"
    write_section(f"accuracy {arguments.case}", lines, f"{command} --test {arguments.test}", arguments.page)


def test_rows(data: Path, count: int) -> tuple[Sample, ...]:
    """Rows of documents that no training has, in a fixed order."""
    lines = [line for name in TEST_FILES for line in (data / name).read_text(encoding="utf-8").splitlines()]
    random.Random(0).shuffle(lines)
    return tuple(sample(number, json.loads(line)) for number, line in enumerate(lines[:count]))


def learn(directory: Path, dtype: str, samples: tuple[Sample, ...], test: tuple[Sample, ...], seed: int) -> Metrics:
    """Trains one adapter and scores it."""
    base = BaseModelConfig(alias="base", source=str(directory))
    bases = Bases(WorkerConfig(bases=(base,), dtype=dtype, cache_dir=str(CACHE)))
    with tempfile.TemporaryDirectory() as folder:
        spec = TrainSpec(
            job_id="benchmark",
            base_alias="base",
            training_samples=samples,
            validation_samples=(),
            lora=LoraConfig(),
            training=TrainingConfig(seed=seed),
            inner=(),
            champion=AdapterRef(name="base", base_alias="base"),
            output_dir=folder,
        )
        for _ in train(spec, bases):
            pass
        subject = AdapterRef(name="x_v1", base_alias="base", directory=folder)
        (scored,) = [one for one in score(ScoreSpec(subject=subject, samples=test), bases) if isinstance(one, Scored)]
    assert scored.metrics is not None
    return scored.metrics


def shown(values: list[float], sign: str = "") -> str:
    """Mean and standard deviation as a cell."""
    deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{sign}.3f}{deviation}"


if __name__ == "__main__":
    main()
