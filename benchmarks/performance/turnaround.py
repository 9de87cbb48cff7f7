"""From corrections to an adapter in force, beside Trainer + PEFT from `python` to a saved adapter.

    python benchmarks/performance/turnaround.py [--count 100] [--epochs 2] [--rounds 2] [--defaults]

All train the same rows for as many epochs, without held-out rows, folds or candidates. Warm: from the call of Train to
the event that says that the version is in force, on a server whose base is loaded. Cold: the same, from the start of
`lyra-adapters serve`. Peer: the whole run of the script. In turns. With --defaults also, once, a job with the service's
defaults: their epochs, rows held out for the gate, and the folds by which the best step is found. Ten minutes with 100
corrections and one epoch, twenty-five with 1,000.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lyra_adapters import AdapterClient
from models import CASES, Model, find_model
from page import PAGE, write_section
from rounds import HERE, shown, spread
from rows import DATA, ROOT, corrections, write

sys.path.insert(0, str(ROOT / "examples"))
from serving import serving

EQUAL: dict[str, Any] = {"validation_fraction": 0.0, "inner_fraction": 0.0, "folds": 1, "patience": 0}
DEFAULTS = "Train to in force, warm, the service's defaults"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, default="demo")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--defaults", action="store_true", help="measure the service's own defaults too")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    model = find_model(arguments.case)
    rows = corrections(arguments.data, arguments.count)
    settings = {**EQUAL, "epochs": arguments.epochs}
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        file = write(work / "rows.jsonl", rows)
        with serving(work / "warm", "--base-model", f"base={model.directory}") as address:
            tasks: dict[str, Callable[[str], float]] = {
                "Train to in force, warm": lambda name: in_force(address, rows, name, settings),
                "serve and Train to in force, cold": lambda name: cold(work / name, model, rows, settings),
                "Trainer + PEFT, tuned": lambda name: peer(file, model, work / name, arguments.epochs, "tuned"),
            }
            for turn in range(arguments.rounds):
                for number, (name, task) in enumerate(tasks.items()):
                    found.setdefault(name, []).append(task(f"run_{turn}_{number}_x"))
            if arguments.defaults:
                found[DEFAULTS] = [in_force(address, rows, "defaults", {})]
    theirs = found["Trainer + PEFT, tuned"]
    lines = [
        f"{model.title}, {arguments.count} corrections, {arguments.epochs} epochs, {arguments.rounds} rounds in turns.",
        "",
        "| | seconds: median (least … most) | the peer beside it |",
        "| --- | --- | --- |",
    ]
    for name, seconds in found.items():
        # With the defaults it does more epochs than the peer, and more than training.
        ratio = "" if name == DEFAULTS else f"{spread(theirs)['median'] / spread(seconds)['median']:.2f}"
        lines.append(f"| {name} | {shown(spread(seconds), '.1f')} | {ratio} |")
    command = (
        f"python benchmarks/performance/turnaround.py --case {arguments.case} --count {arguments.count} "
        f"--epochs {arguments.epochs} --rounds {arguments.rounds}{' --defaults' if arguments.defaults else ''}"
    )
    write_section(f"turnaround {arguments.case} {arguments.count}", lines, command, arguments.page)


def in_force(address: str, rows: list[dict[str, Any]], adapter: str, settings: dict[str, Any]) -> float:
    """Seconds from the call to the end of a job; what is trained is put in force whatever it is worth."""
    begin = time.monotonic()
    with AdapterClient(address) as client:
        for event in client.train(
            rows, adapter=adapter, activation="always", trigger={"force": True}, training=settings
        ):
            if event.kind == "failed":
                raise RuntimeError(str(event))
    return time.monotonic() - begin


def cold(home: Path, model: Model, rows: list[dict[str, Any]], settings: dict[str, Any]) -> float:
    """Seconds from the start of a server to the end of its first job."""
    begin = time.monotonic()
    with serving(home, "--base-model", f"base={model.directory}") as address:
        in_force(address, rows, "first", settings)
        # Without the server's orderly end.
        return time.monotonic() - begin


def peer(rows: Path, model: Model, output: Path, epochs: int, style: str) -> float:
    """Seconds of the peer's script, from its start to its end."""
    begin = time.monotonic()
    command = [sys.executable, str(HERE / "peer.py"), str(rows), "--base", str(model.directory), "--kind", model.kind]
    options = ["--output", str(output), "--epochs", str(epochs), "--style", style]
    done = subprocess.run([*command, *options], stdout=subprocess.PIPE, check=True, text=True)
    json.loads(done.stdout.splitlines()[-1])
    return time.monotonic() - begin


if __name__ == "__main__":
    main()
