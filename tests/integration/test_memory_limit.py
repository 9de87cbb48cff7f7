"""A trainer whose process may not take more memory, by the kernel's word: it makes its micro-batches smaller."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

import pytest
from lyra_adapters_server.trainer.spec import BaseModelConfig, LoadSpec, ScoreSpec, TrainSpec, WorkerConfig
from lyra_adapters_server.types import AdapterRef, LoraConfig, Sample, TrainingConfig
from tiny_base import make_tiny_base, rows
from trainer_process import TrainerProcess

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="limits another process's memory with prlimit"),
]

BASE = AdapterRef(name="base", base_alias="tiny")
MIB = 1 << 20


def samples(count: int) -> tuple[Sample, ...]:
    """Rows of some 500 tokens each, which begin differently: what is the same is computed once, and needs less."""
    texts = [(row["premise"] * 16).split() for row in rows(count)]
    premises = [" ".join(words[n:] + words[:n]) for n, words in enumerate(texts)]
    return tuple(Sample(**{**row, "premise": premise}) for row, premise in zip(rows(count), premises, strict=True))


def spec(output: Path) -> TrainSpec:
    return TrainSpec(
        job_id="job",
        base_alias="tiny",
        training_samples=samples(8),
        validation_samples=(),
        lora=LoraConfig(rank=4),
        training=TrainingConfig(epochs=1, batch_size=8),
        champion=BASE,
        output_dir=str(output),
    )


def memory(pid: int) -> int:
    """Bytes of address space that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def test_a_process_limit_makes_micro_batches_smaller(tmp_path: Path) -> None:
    # Wide, so that a micro-batch needs more than what the libraries hold in reserve.
    base = BaseModelConfig(alias="tiny", source=str(make_tiny_base(tmp_path / "wide", width=1024)))
    config = WorkerConfig(bases=(base,), threads=1, dtype="float32", device="cpu", cache_dir=str(tmp_path / "cache"))
    endings = []
    # How much a micro-batch needs is not known here. With a little the training fails, with much it just runs; in
    # between it goes on with less.
    for extra in (8, 32, 64, 96, 128, 192, 256, 512, 1024):
        with TrainerProcess(config) as trainer:
            trainer.result(trainer.ask("load", LoadSpec(base_alias="tiny")))
            pid = trainer.process.pid
            # What it computes once needs libraries' own memory, which is not what is tested.
            trainer.result(trainer.ask("score", ScoreSpec(subject=BASE, samples=samples(1))))
            limit = memory(pid) + extra * MIB
            resource.prlimit(pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
            replies = trainer.until_done(trainer.ask("train", spec(tmp_path / f"with-{extra}")))
            error = replies[-1].error
            warnings = [r.event.reason for r in replies if r.event is not None and r.event.kind == "warning"]
            endings.append((error.reason if error else "trained", "MICRO_BATCH_HALVED" in warnings))
            # Whatever came of it, the process lives, and works once it has its memory back.
            resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            assert trainer.result(trainer.ask("score", ScoreSpec(subject=BASE, samples=samples(1)))) is not None
            os.kill(pid, signal.SIGTERM)
        if endings[-1] == ("trained", False):
            break
    assert {reason for reason, _ in endings} <= {"trained", "OUT_OF_MEMORY"}, endings
    assert ("trained", True) in endings, endings
    assert endings[-1] == ("trained", False), endings
