"""Where the time of a training step goes, with the compiled kernels and without.

    python benchmarks/performance/step_profile.py [--case demo] [--count 1000] [--steps 12]

torch's profiler over some steps of the service's own engine, each part's own time summed by kind. A minute.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import engine
from lyra_adapters_server.trainer.kernels import ops
from models import CASES, find_model
from page import PAGE, write_section
from rows import DATA, corrections, write
from torch.profiler import ProfilerActivity, profile

KINDS = {
    "matrix products": ("aten::mm", "aten::addmm"),
    "attention": ("CompiledAttention", "GroupedAttention", "aten::bmm", "aten::_softmax"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, default="demo")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    engine.keep_freed_memory()
    engine.use_threads(0)
    model = find_model(arguments.case)
    with tempfile.TemporaryDirectory() as folder:
        rows = write(Path(folder) / "rows.jsonl", corrections(arguments.data, arguments.count))
        settings = engine.read_arguments([str(rows), "--base", str(model.directory)])
        compiled = shares(settings, Path(folder) / "compiled", arguments.steps)
        with ops.using(False):
            plain = shares(settings, Path(folder) / "plain", arguments.steps)
    lines = [
        f"{model.title}, {arguments.count} corrections, bfloat16, batch 8; {arguments.steps} steps.",
        "",
        "| | compiled kernels | torch's functions |",
        "| --- | --- | --- |",
        *(f"| {kind} | {compiled[kind]:.0%} | {plain[kind]:.0%} |" for kind in (*KINDS, "all else")),
    ]
    command = f"python benchmarks/performance/step_profile.py --case {arguments.case} --count {arguments.count}"
    write_section(f"step {arguments.case}", lines, command, arguments.page)


def shares(settings: argparse.Namespace, folder: Path, count: int) -> dict[str, float]:
    """Each kind's share of the time of so many steps, after as many for warming up."""
    steps = engine.training(settings, folder)
    for _ in range(count):
        next(steps)
    with profile(activities=[ProfilerActivity.CPU]) as told:
        for _ in range(count):
            next(steps)
    steps.close()
    spent: Counter[str] = Counter()
    for event in told.key_averages():
        kind = next((kind for kind, names in KINDS.items() if event.key.startswith(names)), "all else")
        spent[kind] += event.self_cpu_time_total
    return {kind: spent[kind] / spent.total() for kind in (*KINDS, "all else")}


if __name__ == "__main__":
    main()
