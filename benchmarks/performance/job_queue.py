"""A queue of small jobs: how long the trainer idles between them, and how soon a job on a warm base begins.

    python benchmarks/performance/job_queue.py [--jobs 8] [--least 50] [--most 300] [--epochs 1]

The jobs are sent at once. The trainer's processor time is looked at every twentieth of a second from the first start to
the last verdict; it idles where it used less than a fifth of one core. How soon a job begins is measured beside, on the
idle server after the queue: from the event that says that the job is stored to the one that says that training has
started.
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

import psutil
from lyra_adapters import AdapterClient
from models import CASES, find_model
from page import PAGE, write_section
from rounds import shown, spread
from rows import DATA, ROOT, corrections

sys.path.insert(0, str(ROOT / "examples"))
from serving import serving

SAMPLE_S, IDLE_BELOW = 0.05, 0.2


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
        meter = Meter()
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
        meter.stop.set()
        begun = min(moment(events, "started") for events in told)
        ended = max(moment(events, "verdict") for events in told)
        waits = []
        for number in range(5):
            events: list[Any] = []
            follow(address, rows[:50], f"soon_{number}_x", 1, events)
            waits.append((moment(events, "started") - moment(events, "queued")) * 1000)
    idle, busy = meter.idle(begun, ended)
    lines = [
        f"{model.title}; jobs of {', '.join(map(str, sizes))} corrections, epochs each: {arguments.epochs}, with "
        "held-out rows and the gate.",
        "",
        f"- From the first Train to the last verdict {whole:.1f} s; meanwhile the trainer idled {idle:.2f} s in "
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


class Meter(threading.Thread):
    """Looks at the trainer's processor time until it is told to stop."""

    def __init__(self) -> None:
        """Finds the trainer among this process's descendants, and starts."""
        super().__init__(daemon=True)
        every = psutil.Process().children(recursive=True)
        self._trainer = next(one for one in every if "lyra_adapters_server.trainer.worker" in " ".join(one.cmdline()))
        self._seen: list[tuple[float, float]] = []
        self.stop = threading.Event()
        self.start()

    def run(self) -> None:
        """Notes the time and the processor time, over and over."""
        while not self.stop.wait(SAMPLE_S):
            times = self._trainer.cpu_times()
            self._seen.append((time.time(), times.user + times.system))

    def idle(self, begin: float, end: float) -> tuple[float, float]:
        """Seconds in which it idled and in which it worked, between two moments."""
        spans = [
            (after - before, used - so_far)
            for (before, so_far), (after, used) in itertools.pairwise(self._seen)
            if begin <= before and after <= end
        ]
        idle = sum(span for span, used in spans if used < IDLE_BELOW * span)
        return idle, sum(span for span, _ in spans) - idle


def moment(events: list[Any], kind: str) -> float:
    """When the first event of a kind was stored, in seconds."""
    return seconds(next(event for event in events if event.kind == kind).time)


def seconds(time_: datetime) -> float:
    """Seconds since the epoch."""
    return time_.timestamp()


if __name__ == "__main__":
    main()
