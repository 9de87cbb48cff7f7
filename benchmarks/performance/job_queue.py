"""A queue of small jobs: how long the trainer idles between them, and how soon a job on a warm base begins.

    python benchmarks/performance/job_queue.py [--jobs 8] [--least 50] [--most 300] [--epochs 1]

The jobs are sent at once. The trainer idles from the last thing that it says of a job (it has trained, or scored for
the verdict) until it has begun the next. How soon a job begins is measured beside, on the idle server after the queue:
from the event that says that the job is stored to the one that says that training has started.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from lyra_adapters import AdapterClient
from models import CASES, find_model
from page import PAGE, write_section
from rounds import shown, spread
from rows import DATA, ROOT, corrections

sys.path.insert(0, str(ROOT / "examples"))
from serving import serving

# What the trainer itself says; the rest is the server's.
TRAINERS = ("started", "progress", "evaluation", "checkpointed", "warning")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, default="demo")
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--least", type=int, default=50)
    parser.add_argument("--most", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    model = find_model(arguments.case)
    step = (arguments.most - arguments.least) / max(arguments.jobs - 1, 1)
    # Small and large in turns.
    sizes = [round(arguments.least + step * (number * 3 % arguments.jobs)) for number in range(arguments.jobs)]
    rows = corrections(arguments.data, max(sizes))
    with (
        tempfile.TemporaryDirectory() as home,
        serving(Path(home), "--base-model", f"base={model.directory}") as address,
    ):
        begin = time.monotonic()
        told: list[list[Any]] = [[] for _ in sizes]
        threads = [
            threading.Thread(
                target=follow, args=(address, rows[:size], f"job_{number}_x", arguments.epochs, told[number])
            )
            for number, size in enumerate(sizes)
        ]
        for thread in threads:
            thread.start()
            # In this order.
            time.sleep(0.2)
        for thread in threads:
            thread.join()
        whole = time.monotonic() - begin
        waits = []
        for number in range(5):
            events: list[Any] = []
            follow(address, rows[:50], f"soon_{number}_x", 1, events)
            waits.append((moment(events, "started") - moment(events, "queued")) * 1000)
    idle, busy = gaps(told)
    lines = [
        f"{model.title}; jobs of {', '.join(map(str, sizes))} corrections, epochs each: {arguments.epochs}, with "
        "held-out rows and the gate.",
        "",
        f"- From the first Train to the last verdict {whole:.1f} s; between jobs the trainer idled {idle:.2f} s in "
        f"all, {idle / (idle + busy):.1%} of the time.",
        f"- From acceptance to the start of training, five jobs of 50: {shown(spread(waits), '.0f')} ms.",
    ]
    command = f"python benchmarks/performance/job_queue.py --case {arguments.case} --jobs {arguments.jobs}"
    write_section(f"queue {arguments.case}", lines, command, arguments.page)


def follow(address: str, rows: list[dict[str, Any]], adapter: str, epochs: int, events: list[Any]) -> None:
    """Trains, and keeps the job's events."""
    settings = {"epochs": epochs, "folds": 1}
    with AdapterClient(address) as client:
        events.extend(client.train(rows, adapter=adapter, trigger={"force": True}, training=settings))


def gaps(told: list[list[Any]]) -> tuple[float, float]:
    """Seconds between jobs in which the trainer did nothing, and seconds in which it worked."""
    spans = sorted((moment(events, "started"), last_of_trainer(events)) for events in told)
    idle = sum(max(0.0, begin - end) for (_, end), (begin, _) in itertools.pairwise(spans))
    return idle, spans[-1][1] - spans[0][0] - idle


def moment(events: list[Any], kind: str) -> float:
    """When the first event of a kind was stored, in seconds."""
    return seconds(next(event for event in events if event.kind == kind).time)


def last_of_trainer(events: list[Any]) -> float:
    """When the trainer last said something of a job."""
    return max(seconds(event.time) for event in events if event.kind in TRAINERS)


def seconds(time_: datetime) -> float:
    """Seconds since the epoch."""
    return time_.timestamp()


if __name__ == "__main__":
    main()
