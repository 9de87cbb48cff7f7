"""Kills servers and trainers, at every failpoint and at random, while callers use them; checks every promise each time.

    python tests/crash/campaign.py --kills 300

prints a table of what was killed and checked. `make test` runs the short form of it, `make test-crash` the long one. A
long one can be run in pieces: with --add-to FILE the counts of this one are added to those in the file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(Path(__file__).parent), str(TESTS)]

from callers import Callers, Line  # noqa: E402 - after the path is set, for a run as a script
from journal import Journal  # noqa: E402
from lyra_adapters_server.config import Settings  # noqa: E402
from lyra_adapters_server.failpoints import LOG_VARIABLE, NAMES, VARIABLE  # noqa: E402
from lyra_adapters_server.registry.layout import Layout  # noqa: E402
from lyra_adapters_server.registry.repair import repair  # noqa: E402
from lyra_adapters_server.storage.database import Database  # noqa: E402
from promises import Checker  # noqa: E402
from server_process import ServerProcess  # noqa: E402
from tiny_base import make_tiny_base  # noqa: E402

# Jobs of a second, many of them; and jobs long enough to be killed in the middle.
QUICK = ("quick", 60, 1)
LONG = ("long", 90, 12)
IN_WORKER = ("checkpoint.", "adapter.", "format.write.")
# Points that the end of a training reaches; once a directory has its name, they are reached without one.
PUBLISHING = ("publish.", "event.", "link.flat.")
FLAGS = ("--lease-s", "2", "--max-attempts", "100", "--progress-interval-s", "0", "--heartbeat-s", "5")
CHECKPOINTS = "checkpoint_steps" in Settings.model_fields
if CHECKPOINTS:
    FLAGS += ("--checkpoint-steps", "3")
# How long to wait for anything; on a machine with other work the end of a training may be minutes away.
WAIT_S = 900.0
AGAIN_S = 30.0


@dataclass
class Counts:
    """What a campaign, or several, did and found."""

    kills: dict[str, int]
    checked: dict[str, int]
    missed: list[str]
    violations: int
    seconds: float = 0.0

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(
            dict(Counter(self.kills) + Counter(other.kills)),
            dict(Counter(self.checked) + Counter(other.checked)),
            sorted({*self.missed, *other.missed} - set(self.kills) - set(other.kills)),
            self.violations + other.violations,
            self.seconds + other.seconds,
        )

    def table(self) -> str:
        """The counts as a table."""
        named = sum(count for name, count in self.kills.items() if name in NAMES)
        reached = sum(name in self.kills for name in NAMES)
        return _table(
            ("what", "count"),
            ("kills", sum(self.kills.values())),
            ("  at failpoints", f"{named} (at {reached} of {len(NAMES)} points)"),
            *((f"  {name}", count) for name, count in sorted(self.kills.items()) if name not in NAMES),
            *(sorted(self.checked.items())),
            ("points not reached", ", ".join(self.missed) or 0),
            ("violations", self.violations),
        )

    def points(self) -> str:
        """How often each failpoint killed, as a table."""
        return _table(("failpoint", "kills"), *((name, self.kills.get(name, 0)) for name in NAMES))

    def report(self, command: str) -> str:
        """Both tables as a page."""
        machine = f"{platform.machine()} with {os.cpu_count()} cores"
        return (
            f"# Kills\n\n`{command}` on {machine}, in {self.seconds / 60:.0f} minutes. What is checked after each "
            f"kill: [guarantees.md](../guarantees.md).\n\n{self.table()}\n\n"
            f"How often each failpoint killed its process:\n\n{self.points()}\n"
        )


def _table(*lines: tuple[str, object]) -> str:
    width = max(len(name) for name, _ in lines)
    head, *rest = [f"| {name:<{width}} | {value} |" for name, value in lines]
    return "\n".join([head, f"|{'-' * (width + 2)}|---:|", *rest])


@dataclass
class Campaign:
    """A home, its server, its callers, and what was done to them."""

    directory: Path
    seed: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    server: ServerProcess | None = None

    def __post_init__(self) -> None:
        self.home = self.directory / "home"
        self.base = make_tiny_base(self.directory / "tiny")
        self.random = random.Random(self.seed)
        self.journal = Journal()
        self.line = Line()
        self.callers = Callers(self.line, self.journal)
        self.checker = Checker(self.home, self.journal)

    def start(self, points: str = "") -> bool:
        """Starts the server with these points armed; False if it died before it served."""
        log = self.directory / "points.log"
        environment = {VARIABLE: points, LOG_VARIABLE: str(log)} if points else {}
        log.unlink(missing_ok=True)
        self.server = ServerProcess(
            self.home,
            f"tiny={self.base}",
            self.directory / "cache",
            *FLAGS,
            environment=environment,
            wait=False,
        )
        try:
            self.server.wait_serving(WAIT_S)
        except AssertionError:
            if self.server.process.poll() != -signal.SIGKILL:
                raise
            return False
        self.line.move(self.server.address)
        return True

    def reap(self) -> None:
        """Clears up after a death of the server: its trainer dies with it, as in a power cut."""
        assert self.server
        self.line.move("")
        for started in self.server.logged("worker_started"):
            try:
                os.kill(int(started["pid"]), signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.server.stop(signal.SIGKILL)
        self.server = None

    def kill_at(self, *points: str) -> None:
        """Starts the server armed, makes callers reach the points, and checks after the next, unarmed look.

        Points of the trainer kill the trainer alone; the last point may be one of the server.
        """
        if self.server is not None:
            # Only its trainer was killed last.
            self.reap()
            self.kills["server, anywhere"] += 1
        served = self.start(";".join(f"{point}=kill" for point in points))
        assert self.server
        if served:
            self._provoke(points)
        log = self.directory / "points.log"
        begun = again = time.monotonic()
        while time.monotonic() < begun + WAIT_S and self.server.process.poll() is None:
            reached = log.read_text().split() if log.exists() else []
            if set(points) <= set(reached):
                break
            if served and time.monotonic() > again + AGAIN_S:
                # What was asked may have come too late: a job had ended before it was to be cancelled.
                again = time.monotonic()
                self._provoke(points)
            time.sleep(0.02)
        if any(not point.startswith(IN_WORKER) for point in points):
            # The signal is on its way.
            time.sleep(0.1)
        reached = log.read_text().split() if log.exists() else []
        for point in points:
            if point in reached:
                self.kills[point] += 1
            else:
                self.missed.append(point)
            print(f"{self.kills.total():>4} {point}{'' if point in reached else ' was not reached'}", flush=True)
        died = self.server.process.poll() is not None
        self.reap()
        if not died:
            self.kills["server, anywhere"] += 1
        self.look()

    def kill_at_random(self, who: str) -> None:
        """Kills server or trainer at any moment."""
        if self.server is None:
            self.start()
        assert self.server
        if who == "server":
            time.sleep(self.random.uniform(0.0, 4.0))
            self.server.process.send_signal(signal.SIGKILL)
            self.server.process.wait()
            self.reap()
            self.look()
        else:
            self.server.wait_for_log("base_loaded", seconds=WAIT_S)
            time.sleep(self.random.uniform(0.0, 1.0))
            os.kill(self.server.worker_pid(), signal.SIGKILL)
            count = len(self.server.logged("worker_died"))
            self.server.wait_for_log("worker_died", count + 1, WAIT_S)
        self.kills[f"{who}, at random"] += 1
        print(f"{self.kills.total():>4} {who}, at random", flush=True)

    def look(self) -> None:
        """Mends as a start does, then checks every promise."""
        layout = Layout(self.home)
        database = Database(layout.database)
        database.migrate()
        repair(layout, database)
        database.close()
        self.checker.check()

    def finish(self) -> None:
        """Lets everything end in peace and checks for the last time."""
        if self.server is None:
            self.start()
        assert self.server
        if not self.callers.wait(WAIT_S):
            self.checker.violations.append("callers still wait")
        self.callers.end()
        assert self.server.stop() == 0
        self.server = None
        self.look()
        self.checker.check(over=True)

    def counts(self) -> Counts:
        """What was done and found."""
        return Counts(dict(self.kills), dict(self.checker.checked), self.missed, len(self.checker.violations))

    def _provoke(self, points: tuple[str, ...]) -> None:
        """Lets callers do what reaches the points."""
        wanted: dict[str, Callable[[], object]] = {
            "accept": lambda: self.callers.train(*QUICK, twice=True),
            "acknowledge": lambda: self.callers.train(*QUICK),
            "cancel": self._cancel,
            "feedback": self._feedback,
            "delete": self._delete,
            "format": self._format,
            "rollback": self._move,
            "activate": self._move,
            "link": self._move,
            "fsync": self._move,
        }
        for start in {point.partition(".")[0] for point in points}:
            if start in wanted:
                wanted[start]()
        if any(point.startswith((*IN_WORKER, *PUBLISHING, "lease.")) for point in points):
            self._stock()

    def _feedback(self) -> None:
        for name in sorted(self.journal.feedback)[:1]:
            self.callers.delete_feedback(name)
        self.callers.record()

    def _delete(self) -> None:
        self.callers.delete_version("quick", self._spare("1"))

    def _format(self) -> None:
        made = "SELECT 1 FROM version_formats AS f WHERE f.adapter = v.adapter AND f.number = v.number"
        self.callers.make_format("quick", self._spare(f"NOT EXISTS ({made})"))

    def _spare(self, condition: str) -> int:
        """A version that is there and never put in force by hand; trains until there is one."""
        query = (
            "SELECT v.number FROM versions AS v JOIN adapters AS a ON a.name = v.adapter WHERE v.adapter = 'quick' AND "
            f"v.delete_time IS NULL AND v.number > 2 AND v.number IS NOT a.active AND {condition}"
        )
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            with contextlib.closing(sqlite3.connect(f"file:{self.home / 'registry.db'}?mode=ro", uri=True)) as database:
                numbers = [row[0] for row in database.execute(query)]
            if numbers:
                return int(self.random.choice(numbers))
            if not self._waiting():
                # The first is in force until there is the second.
                self.callers.train(*QUICK)
                self.callers.train(*QUICK)
            time.sleep(0.5)
        raise AssertionError("no version that could be spared was published")

    def _move(self) -> None:
        number = self.random.choice((1, 2))
        self.callers.activate("quick", f"v{number}")
        self.callers.activate("quick", f"v{3 - number}")
        self.callers.rollback("quick")

    def _cancel(self) -> None:
        if not self._waiting():
            self.callers.train(*LONG)
        deadline = time.monotonic() + WAIT_S
        while not (waiting := self._waiting()) and time.monotonic() < deadline:
            time.sleep(0.02)
        self.callers.cancel(waiting[-1])

    def _stock(self) -> None:
        for _ in range(max(0, 2 - len(self._waiting()))):
            self.callers.train(*(LONG if self.random.random() < 0.3 else QUICK))

    def _waiting(self) -> list[str]:
        with self.journal.lock:
            return [job for job in self.journal.jobs.values() if job not in self.journal.closed]


def prepare(campaign: Campaign) -> None:
    """Trains undisturbed what later runs are compared with, and puts several versions in force."""
    campaign.start()
    assert campaign.server
    campaign.server.wait_for_log("base_loaded", seconds=WAIT_S)
    for what in (QUICK, QUICK, LONG):
        campaign.callers.train(*what)
    assert campaign.callers.wait(WAIT_S), "the undisturbed jobs did not end"
    campaign.checker.check()
    for what in (QUICK, QUICK, QUICK):
        campaign.callers.train(*what)
    campaign.server.process.send_signal(signal.SIGKILL)
    campaign.server.process.wait()
    campaign.kills["server, at random"] += 1
    campaign.reap()
    campaign.look()


def run(campaign: Campaign, kills: int, seconds: float) -> None:
    """Goes through every point of the server, of the trainer and at random, until the kills or the time are used up."""
    end = time.monotonic() + seconds
    names = [name for name in NAMES if not name.startswith(IN_WORKER)]
    trainers = [name for name in NAMES if name.startswith(IN_WORKER) and (CHECKPOINTS or "checkpoint" not in name)]
    while campaign.kills.total() < kills:
        points = list(names)
        campaign.random.shuffle(points)
        campaign.kill_at(*trainers)
        for number, point in enumerate(points):
            if campaign.kills.total() >= kills or time.monotonic() > end:
                return
            if point.startswith("lease.release."):
                # A lease is given back when the trainer has died.
                campaign.kill_at("adapter.write.after", point)
            else:
                campaign.kill_at(point)
            if number % 4 == 0:
                campaign.kill_at_random(campaign.random.choice(("server", "worker")))


def main() -> int:
    """Runs the long form; returns 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so many, with fewer kills")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the points and the random moments")
    parser.add_argument("--add-to", type=Path, help="a file with the counts of the pieces so far")
    parser.add_argument("--output", type=Path, help="where to write the tables as a page")
    options = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        campaign = Campaign(Path(directory), options.seed)
        try:
            prepare(campaign)
            run(campaign, options.kills, options.seconds)
            campaign.finish()
        finally:
            if campaign.server:
                campaign.reap()
            campaign.callers.end()
    counts = replace(campaign.counts(), seconds=time.monotonic() - begun)
    if options.add_to:
        if options.add_to.exists():
            counts = counts.plus(Counts(**json.loads(options.add_to.read_text())))
        options.add_to.write_text(json.dumps(asdict(counts)))
    if options.output:
        command = f"python tests/crash/campaign.py --kills {sum(counts.kills.values())}"
        options.output.write_text(counts.report(command), encoding="utf-8")
    print(counts.table(), counts.points(), sep="\n\n")
    for violation in campaign.checker.violations:
        print("VIOLATION:", violation)
    print(f"{time.monotonic() - begun:.0f} s")
    return 1 if campaign.checker.violations else 0


if __name__ == "__main__":
    sys.exit(main())
