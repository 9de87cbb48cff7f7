"""What adapting the upper half of the layers alone brings: training speed and memory beside the whole adapter's.

    python benchmarks/performance/upper_half.py [--case demo] [--count 1000] [--rounds 5] [--seconds 6]

Both are the service's own engine, loaded and warm, and take turns (rounds.py). What the lower half gives of all rows is
computed before the first step; how long that takes is told apart. About two minutes.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from models import CASES, find_model
from page import PAGE, write_section
from rounds import shown, spread, take_turns
from rows import DATA, corrections, write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, default="demo")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    model = find_model(arguments.case)
    ready: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        rows = str(write(Path(folder) / "rows.jsonl", corrections(arguments.data, arguments.count)))
        whole = ("engine.py", rows, "--base", str(model.directory))
        programs = {"all layers": whole, "the upper half": (*whole, "--upper-half")}
        found = take_turns(programs, arguments.rounds, arguments.seconds, ready)
    rates = {name: [one["tokens"] / one["seconds"] for one in rounds] for name, rounds in found.items()}
    lines = [
        f"{model.title}, {arguments.count} corrections, bfloat16, batch 8; {arguments.rounds} rounds of "
        f"{arguments.seconds:.0f} s each, in turns.",
        "",
        "| adapted | tokens/s: median (least … most) | beside all layers | peak memory | up to the first step, s |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in programs:
        ratio = spread([one / other for one, other in zip(rates[name], rates["all layers"], strict=True)])
        peak, first = found[name][-1]["peak_bytes"] / 2**20, ready[name]["first_step_s"]
        lines.append(
            f"| {name} | {shown(spread(rates[name]), '.0f')} | {shown(ratio, '.2f')} | {peak:.0f} MiB | {first:.1f} |"
        )
    command = f"python benchmarks/performance/upper_half.py --case {arguments.case} --count {arguments.count}"
    write_section(f"upper half {arguments.case}", lines, command, arguments.page)


if __name__ == "__main__":
    main()
