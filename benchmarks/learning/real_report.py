"""A report to look at: trains on 150 real reviews over the service, then writes the version's page and image.

    python benchmarks/learning/real_report.py OUTPUT [--data DIR] [--home DIR] [--epochs N]

The reviews are what the demo base says of Check-COVID's training rows: the first 120 that it gets wrong and the first
30 that it gets right. OUTPUT gets report.html and report.png. Takes about five minutes on two cores; with --home the
version is kept, and made again only if it is not there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples"))
from lyra_adapters import AdapterClient, DeadlineExceeded, Unavailable  # noqa: E402
from lyra_adapters.models import Classifications  # noqa: E402
from serving import COMMAND, serving  # noqa: E402

WRONG, RIGHT = 120, 30
AT_ONCE = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "nli")
    parser.add_argument("--home", type=Path)
    parser.add_argument("--epochs", type=int, default=4)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = arguments.home or Path(folder) / "home"
        arguments.output.mkdir(parents=True, exist_ok=True)
        trained = (home / "covid_v1").exists()
        with serving(home, "--base-model", "demo") as address:
            if not trained:
                reviews = Path(folder) / "reviews.jsonl"
                write(reviews, reviewed(address, arguments.data / "checkcovid_train.jsonl"))
                flags = ["--adapter", "covid", "--epochs", str(arguments.epochs), "--actor", "reader@example.org"]
                lyra(address, "train", str(reviews), *flags)
            page, image = arguments.output / "report.html", arguments.output / "report.png"
            print(lyra(address, "report", "covid", "v1", "--html", str(page), "--png", str(image), "--force"))


def reviewed(address: str, path: Path) -> list[dict[str, Any]]:
    """Rows with what the base says of them, until there are enough of both kinds or no more."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    wrong: list[dict[str, Any]] = []
    right: list[dict[str, Any]] = []
    with AdapterClient(address) as client:
        for start in range(0, len(rows), AT_ONCE):
            some = rows[start : start + AT_ONCE]
            told = patiently(client, [(row["premise"], row["hypothesis"]) for row in some])
            for row, found in zip(some, told.results, strict=True):
                kind = right if found.label == row["label"] else wrong
                kind.append({**row, "original_label": found.label})
            if len(wrong) >= WRONG and len(right) >= RIGHT:
                break
    return wrong[:WRONG] + right[:RIGHT]


def patiently(client: AdapterClient, pairs: list[tuple[str, str]]) -> Classifications:
    """What the base says of pairs, also on a machine that is busy with other things."""
    while True:
        try:
            return client.classify(pairs, version="base", timeout=60)
        except (Unavailable, DeadlineExceeded) as error:
            print(error)


def lyra(address: str, *arguments: str) -> str:
    """Runs a command of the service's own; returns what it prints."""
    environment = {**os.environ, "LYRA_ADAPTERS_SERVER": address}
    command = [*COMMAND, *arguments]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
