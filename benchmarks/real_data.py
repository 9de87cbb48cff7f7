"""Real data through the whole path: trains on SciFact and Check-COVID over the service, then scores from outside.

    python benchmarks/real_data.py [--data DIR] [--output docs/results/real_data.md]

DIR holds scifact_train.jsonl, checkcovid_train.jsonl and their _dev files (rows with premise, hypothesis, label,
group). The training goes through `lyra-adapters train` against a real server; the scores come from
benchmarks/score_peft.py, which knows nothing of the service, on the published directory. Takes about 15 minutes on
two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples"))
from serving import COMMAND, serving  # noqa: E402

SETS = ("scifact", "checkcovid")
EPOCHS, VALIDATION_FRACTION = 3, 0.1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "nli")
    parser.add_argument("--work", type=Path, help="keep the registry here; if it holds a training, only score it again")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results" / "real_data.md")
    arguments = parser.parse_args()
    if not (arguments.data / "scifact_train.jsonl").exists():
        print(f"no data in {arguments.data}; give --data", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        if not (work / "home" / "real_v1").exists():
            train(work, arguments.data)
        report = score_all(work, arguments.data)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(report, encoding="utf-8")
    print(report)
    return 0


def train(work: Path, data: Path) -> None:
    """Trains over the service; leaves the rows, the events and the registry in `work`."""
    rows = [row for name in SETS for row in read(data / f"{name}_train.jsonl")]
    for number, row in enumerate(rows):
        row["id"] = f"row-{number}"
    work.mkdir(parents=True, exist_ok=True)
    write(work / "train.jsonl", rows)
    flags = ["--epochs", str(EPOCHS), "--validation-fraction", str(VALIDATION_FRACTION)]
    with serving(work / "home", "--base-model", "demo") as address, (work / "events.jsonl").open("w") as events:
        environment = {**os.environ, "LYRA_ADAPTERS_SERVER": address}
        command = [*COMMAND, "train", str(work / "train.jsonl"), "--adapter", "real", "--activation", "always", *flags]
        subprocess.run([*command, "--json"], stdout=events, env=environment, check=True)


def score_all(work: Path, data: Path) -> str:
    """Scores what was trained, from outside, and returns the report in Markdown."""
    rows, events = read(work / "train.jsonl"), read(work / "events.jsonl")
    seconds = events[-1]["succeeded"]["duration"]
    version = work / "home" / "real_v1"
    training = json.loads((version / "training.json").read_text())
    metrics = json.loads((version / "metrics.json").read_text())
    base = json.loads((version / "adapter_config.json").read_text())["base_model_name_or_path"]
    held_out = set(training["data"]["held_out_ids"])
    write(work / "held_out.jsonl", [row for row in rows if row["id"] in held_out])

    lines = [
        "# Real data through the whole path",
        "",
        f"`python benchmarks/real_data.py` on {platform.machine()} with {os.cpu_count()} cores ({cpu_name()}), no GPU.",
        "",
        f"Base: demo (SmolLM2-135M-Instruct). {len(rows)} rows, {len(held_out)} of them held out. Given were "
        f"epochs and validation_fraction; the others are what the service chose: {json.dumps(training['training'])}.",
        f"From acceptance to the verdict: {seconds:.0f} s, of which training and its evaluations "
        f"{training['result']['training_seconds']:.0f} s; {len(events)} events.",
        "",
        "| rows | scored by | base: accuracy | adapter: accuracy | macro-F1 | Brier |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, path in (
        *((f"{name}_dev", data / f"{name}_dev.jsonl") for name in SETS),
        ("held-out", work / "held_out.jsonl"),
    ):
        before = score(path, base, version, with_adapter=False)
        after = score(path, base, version, with_adapter=True)
        lines.append(table_row(f"{name} ({after['rows']})", "transformers + peft", before["accuracy"], after))
    lines.append(
        table_row(f"held-out ({len(held_out)})", "the service", metrics["before"]["accuracy"], metrics["after"])
    )
    same = after["confusion"] == [list(row.values()) for row in metrics["after"]["confusion"].values()]
    lines += [
        "",
        f"The service's confusion on the held-out rows equals the script's: {'yes' if same else 'no'}. In bfloat16 the "
        "service's kernels and transformers' own round differently, so a near-tie may fall either way; in float32 the "
        "two agree (`tests/contract/test_outside_scores.py`).",
        "",
    ]
    return "\n".join(lines)


def score(rows: Path, base: str, version: Path, *, with_adapter: bool, dtype: str = "bfloat16") -> dict[str, Any]:
    """What score_peft.py prints."""
    script = [sys.executable, str(ROOT / "benchmarks" / "score_peft.py"), str(rows), "--base", base, "--dtype", dtype]
    which = ["--adapter", str(version)] if with_adapter else ["--prompt", str(version / "prompt.json")]
    done = subprocess.run([*script, *which], stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def table_row(rows: str, by: str, before: float, after: dict[str, Any]) -> str:
    """A line of the report's table."""
    numbers = " | ".join(f"{after[key]:.3f}" for key in ("accuracy", "macro_f1", "brier"))
    return f"| {rows} | {by} | {before:.3f} | {numbers} |"


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes rows as JSON Lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def cpu_name() -> str:
    """The processor's name, where the system tells."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    sys.exit(main())
