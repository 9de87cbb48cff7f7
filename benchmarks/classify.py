"""Does Classify say what plain transformers and peft say, and how long does it take beside a training?

    python benchmarks/classify.py [--data DIR] [--output docs/results/classify.md]

Trains two small versions of the demo base on Check-COVID rows, compares Classify with benchmarks/score_peft.py in
float32 on 200 rows for the base, the first version and the one in force, and times 16 pairs while a third job trains.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from real_data import ROOT, cpu_name, read, score, write

sys.path.insert(0, str(ROOT / "examples"))
from lyra_adapters import AdapterClient
from serving import serving

ROWS, CALLS, PAIRS = 200, 40, 16
TRAINED, EPOCHS = 160, 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "nli")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results" / "classify.md")
    arguments = parser.parse_args()
    if not (arguments.data / "checkcovid_dev.jsonl").exists():
        print(f"no data in {arguments.data}; give --data", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        report = measure(Path(folder), arguments.data)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(report, encoding="utf-8")
    print(report)
    return 0


def measure(work: Path, data: Path) -> str:
    """Trains, compares, times, and returns the report in Markdown."""
    fields = ("premise", "hypothesis", "label", "group")
    corrections = [{key: row[key] for key in fields} for row in read(data / "checkcovid_train.jsonl")]
    rows = read(data / "checkcovid_dev.jsonl")[:ROWS]
    write(work / "rows.jsonl", rows)
    pairs = [{"premise": row["premise"], "hypothesis": row["hypothesis"]} for row in rows]
    answers: dict[str, dict[str, list[Any]]] = {}
    with serving(work / "home", "--base-model", "demo") as address, AdapterClient(address) as client:
        for seed in (1, 2):
            training = {"epochs": EPOCHS, "seed": seed}
            for _ in client.train(corrections[:TRAINED], adapter="c", activation="always", training=training):
                pass
        base = next(iter(client.versions(adapter="c"))).base_model
        answers["float32"] = ask(client, pairs)
        timing = [time_beside_training(client, corrections, pairs[:PAIRS], "float32, the default")]
    rounding = ("--base-model", "demo", "--classify-dtype", "base")
    with serving(work / "home", *rounding) as address, AdapterClient(address) as client:
        answers["bfloat16"] = ask(client, pairs)
        timing.append(time_beside_training(client, corrections, pairs[:PAIRS], "base"))
    lines = [
        "# Classify",
        "",
        f"`python benchmarks/classify.py` on {platform.machine()} with {os.cpu_count()} cores ({cpu_name()}), no GPU.",
        "",
        f"{len(rows)} rows of Check-COVID, demo base, versions trained on {TRAINED} rows for {EPOCHS} epochs. Compared "
        "with plain transformers and peft in float32 (`benchmarks/score_peft.py`): how many rows get the same label, "
        "and the largest difference of a probability. The server keeps the base in bfloat16, where the hardware "
        "multiplies that fast, and answers as float32 would. With `--classify-dtype base` it computes in bfloat16, "
        "which has 8 bits, so rows whose labels are nearly tied can fall either way, as they do when transformers "
        "itself computes in it.",
        "",
        "| version | default (float32) | `--classify-dtype base` (bfloat16) |",
        "| --- | --- | --- |",
    ]
    for name in ("base", "c_v1", "c_v2"):
        version = work / "home" / ("c_v1" if name == "base" else name)
        outside = score(work / "rows.jsonl", base, version, with_adapter=name != "base", dtype="float32")
        cells = " | ".join(compare(answers[dtype][name], outside) for dtype in ("float32", "bfloat16"))
        lines.append(f"| {name}{' (in force)' if name == 'c_v2' else ''} | {cells} |")
        print(lines[-1], file=sys.stderr)
    return "\n".join([*lines, "", *timing, ""])


def ask(client: AdapterClient, pairs: list[dict[str, str]]) -> dict[str, list[Any]]:
    """Classify's answers from the base, the first version and the one in force."""
    return {
        name: [
            result
            for start in range(0, len(pairs), PAIRS)
            for result in client.classify(pairs[start : start + PAIRS], adapter="c", version=asked).results
        ]
        for asked, name in (("base", "base"), ("v1", "c_v1"), ("", "c_v2"))
    }


def time_beside_training(
    client: AdapterClient,
    corrections: list[dict[str, Any]],
    pairs: list[dict[str, str]],
    dtype: str,
) -> str:
    """How long calls take while a job trains, in an item of a list."""
    stream = client.train(corrections, adapter="busy", training={"epochs": 20})
    for event in stream:
        if event.kind == "progress":
            break
    took = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        client.classify(pairs, adapter="c", version="v1")
        took.append(time.perf_counter() - begun)
    still = client.job(stream.job_id).state.name
    client.cancel(stream.job_id)
    took.sort()
    words = sum(len(f"{pair['premise']} {pair['hypothesis']}".split()) for pair in pairs) / len(pairs)
    line = (
        f"- `--classify-dtype` {dtype}: {len(pairs)} pairs of {words:.0f} words while a job trains "
        f"(state afterwards: {still}), {CALLS} calls: "
        f"median {took[CALLS // 2]:.2f} s, p99 {took[int(0.99 * CALLS) - 1]:.2f} s, longest {took[-1]:.2f} s."
    )
    print(line, file=sys.stderr)
    return line


def compare(results: list[Any], outside: dict[str, Any]) -> str:
    """A cell of the report's table."""
    same = sum(result.label.name == label for result, label in zip(results, outside["predictions"], strict=True))
    given = [(r.probabilities.supports, r.probabilities.refutes, r.probabilities.neutral) for r in results]
    pairs = zip(given, outside["probabilities"], strict=True)
    largest = max(abs(a - b) for ours, theirs in pairs for a, b in zip(ours, theirs, strict=True))
    return f"{same} of {len(results)}, {largest:.4f}"


if __name__ == "__main__":
    sys.exit(main())
