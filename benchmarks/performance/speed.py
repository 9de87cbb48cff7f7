"""Training speed and memory beside Trainer + PEFT, in pairs that take turns.

    python benchmarks/performance/speed.py [--case demo] [--count 100] [--rounds 5] [--seconds 8]

All programs are loaded and warm; each works for some seconds while the others wait, and again, as often as --rounds
says. Tokens are counted without padding, over the whole time of a round. Ratios are taken within a round. The limit
is what the machine's matrix products give (limit.py), measured before and after. Two to four minutes a case.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from limit import flops_a_token
from models import CASES, find_model
from page import PAGE, write_section
from rounds import HERE, shown, spread, take_turns
from rows import DATA, corrections, write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, default="demo")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = write(Path(folder) / "rows.jsonl", corrections(arguments.data, arguments.count))
        lines = measure(arguments, rows, Path(folder))
    command = f"python benchmarks/performance/speed.py --case {arguments.case} --count {arguments.count}"
    write_section(f"speed {arguments.case} {arguments.count}", lines, command, arguments.page)


def measure(arguments: argparse.Namespace, rows: Path, folder: Path) -> list[str]:
    """Runs the programs in turns; gives the section's lines."""
    model = find_model(arguments.case)
    base, dtype = ("--base", str(model.directory)), ("--dtype", arguments.dtype)
    peer = ("peer.py", str(rows), *base, *dtype, "--kind", model.kind, "--output", str(folder / "peer"), "--paced")
    programs = {
        "lyra-adapters": ("engine.py", str(rows), *base, *dtype),
        "Trainer + PEFT, tuned": peer,
        "Trainer + PEFT, default": (*peer, "--style", "default"),
    }
    flops = product_limit(arguments.dtype)
    found = take_turns(programs, arguments.rounds, arguments.seconds)
    flops = max(flops, product_limit(arguments.dtype))
    limit = flops / flops_a_token(model.directory)
    rates = {name: [one["tokens"] / one["seconds"] for one in rounds] for name, rounds in found.items()}
    peak = {name: rounds[-1]["peak_bytes"] for name, rounds in found.items()}
    ours = next(iter(programs))
    lines = [
        f"{model.title}, {arguments.count} corrections, {arguments.dtype}, batch 8, rank 8 on query and value, dropout "
        f"0.05. {arguments.rounds} rounds of {arguments.seconds:.0f} s each, in turns. Limit: {flops / 1e9:.0f} "
        f"GFLOP/s in matrix products, {limit:.0f} tokens/s.",
        "",
        "| | tokens/s: median (least … most) | of the limit | ours beside it | peak memory | ours beside it |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in programs:
        rate = spread(rates[name])
        ratio = spread([mine / theirs for mine, theirs in zip(rates[ours], rates[name], strict=True)])
        lines.append(
            f"| {name} | {shown(rate, '.0f')} | {rate['median'] / limit:.0%} | {shown(ratio, '.2f')} | "
            f"{peak[name] / 2**20:.0f} MiB | {peak[ours] / peak[name]:.2f} |"
        )
    return lines


def product_limit(dtype: str) -> float:
    """Operations a second, measured in a process of its own, as the programs are."""
    command = [sys.executable, str(HERE / "limit.py"), "--dtype", dtype]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return float(found["flops"])


if __name__ == "__main__":
    main()
