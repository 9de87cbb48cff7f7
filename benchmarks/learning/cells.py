"""The trainings of the study (study.py), by group and seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

SEEDS = range(5)
SIZES = (50, 100, 200, 500)
BOTH = ("scifact", "checkcovid")
# Of trainings on all rows; a tenth is held out for the gate, as in benchmarks/real_data.py.
ALL_ROWS: dict[str, Any] = {"epochs": 3, "validation_fraction": 0.1}
# What is tried beside the defaults, one thing at a time, on so many rows.
TRIED_ROWS = 300
TRIED_SETTINGS: dict[str, dict[str, Any]] = {
    "batch-4": {"batch_size": 4},
    "label-smoothing-0.1": {"label_smoothing": 0.1},
    "labels-balanced": {"balance_labels": True},
    "epochs-10": {"epochs": 10},
    "epochs-3": {"epochs": 3},
    "patience-1": {"patience": 1},
    "batch-16": {"batch_size": 16},
    "warmup-0": {"warmup_ratio": 0.0},
}
# Beside a linear fall.
TRIED_SCHEDULES = ("cosine", "constant")
TRIED_RATES = (2.0, 0.5, 0.25)
TRIED_ADAPTERS: dict[str, dict[str, Any]] = {
    "rank-16": {"rank": 16, "alpha": 32.0},
    "all-linear": {"target_modules": ("all-linear",)},
    "rank-2": {"rank": 2, "alpha": 4.0},
    "dropout-0": {"dropout": 0.0},
}
# How many seeds these have: an encoder is trained in a moment.
TRIED_SEEDS = {"demo": 3, "encoder": 5}
# What going on from a version is without what is done for it.
WITHOUT: dict[str, dict[str, Any]] = {
    "as-they-are": {"balance_reviews": False, "distillation": 0.0},
    "weights-alone": {"distillation": 0.0},
    "answers-alone": {"balance_reviews": False},
}


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        group: What it is about; the table has one line for each group and set.
        seed: Of the rows' order and of the training.
        sets: Which rows it is trained on.
        size: How many of them; 0: all. With `parent`, reviews: five of six that it erred on.
        parent: The set whose adapter it goes on from.
        rate: Learning rate, as a multiple of the usual one.
        schedule: How it falls after warm-up: `linear` as in the service, `cosine` or `constant` (study.py).
        training: Settings other than the defaults.
        lora: Likewise, of the adapter.
        base: `demo`, or `encoder`: all-MiniLM-L6-v2.
        peer: Whether transformers' Trainer and PEFT train it instead, on all rows.
    """

    group: str
    seed: int
    sets: tuple[str, ...] = BOTH
    size: int = 0
    parent: str = ""
    rate: float = 1.0
    schedule: str = "linear"
    training: dict[str, Any] = field(default_factory=dict)
    lora: dict[str, Any] = field(default_factory=dict)
    base: str = "demo"
    peer: bool = False

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.group}-seed{self.seed}"


def cells() -> Iterator[Cell]:
    """All cells, telling ones first. Where the demo base's settings are tried, three seeds; else five."""
    for seed in SEEDS:
        yield Cell("all", seed, training=ALL_ROWS)
    for seed in SEEDS:
        yield Cell("all-trainer-peft", seed, peer=True)
    for size in (200, *(size for size in SIZES if size != 200)):
        for parent, other in (BOTH, BOTH[::-1]):
            for seed in SEEDS:
                yield Cell(f"{parent}-then-{size}-of-{other}", seed, (other,), size, parent)
    for seed in SEEDS:
        yield Cell("rows-100", seed, size=100)
    for seed in SEEDS:
        yield Cell("jnli-500", seed, ("jnli",), 500)
    yield from _tried()
    for name, training in WITHOUT.items():
        for seed in SEEDS:
            yield Cell(f"scifact-then-200-{name}", seed, ("checkcovid",), 200, "scifact", training=training)
    for rate in (0.3, 2.0):
        yield Cell(f"scifact-then-200-rate-x{rate:g}", 0, ("checkcovid",), 200, "scifact", rate)
    for seed in SEEDS:
        # Some seeds like it better, and others do not get over it.
        yield Cell("all-rate-x1.5", seed, rate=1.5, training=ALL_ROWS)
    for seed in SEEDS:
        yield Cell("all-upper-half", seed, training=ALL_ROWS, lora={"upper_half": True})


def _tried() -> Iterator[Cell]:
    for base, seeds in TRIED_SEEDS.items():
        about = f"{base}-{TRIED_ROWS}"
        for seed in range(seeds):
            yield Cell(f"{about}-defaults", seed, size=TRIED_ROWS, base=base)
            for name, training in TRIED_SETTINGS.items():
                yield Cell(f"{about}-{name}", seed, size=TRIED_ROWS, training=training, base=base)
            for schedule in TRIED_SCHEDULES:
                yield Cell(f"{about}-{schedule}", seed, size=TRIED_ROWS, schedule=schedule, base=base)
            for name, lora in TRIED_ADAPTERS.items():
                yield Cell(f"{about}-{name}", seed, size=TRIED_ROWS, lora=lora, base=base)
            for rate in TRIED_RATES:
                yield Cell(f"{about}-rate-x{rate:g}", seed, size=TRIED_ROWS, rate=rate, base=base)
