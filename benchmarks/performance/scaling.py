"""How training speed grows with the rows' length and with their number, beside Trainer + PEFT.

    python benchmarks/performance/scaling.py [--case demo] [--rounds 3] [--seconds 4]

For each setting both programs are loaded and warm, and take turns (rounds.py). Rows of a length are made of the
corrections' own premises, put end to end and cut; a length counts premise and hypothesis, not the prompt around them.
A step has 8 rows whatever their number, so that more rows change little but how like their lengths are. About ten
minutes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models import CASES, find_model
from page import PAGE, write_section
from rounds import shown, spread, take_turns
from rows import DATA, corrections, write

LENGTHS = (32, 64, 128, 256, 512)
COUNTS = (50, 200, 1000, 5000)
# Of the rows of a length.
ROWS = 200
# The longest rows, with the prompt around them.
MAX_LENGTH = 640


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, default="demo")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    model = find_model(arguments.case)
    # An encoder of 512 positions can't read longer rows.
    lengths = LENGTHS if model.kind == "causal" else tuple(length for length in LENGTHS if length < 512)
    lines = [
        f"{model.title}, bfloat16, batch 8; {arguments.rounds} rounds of {arguments.seconds:.0f} s each, in turns.",
        "",
        "| rows | ours, tokens/s: median (least … most) | Trainer + PEFT, tuned | ours beside it |",
        "| --- | --- | --- | --- |",
    ]
    rows = corrections(arguments.data, max(COUNTS))
    for title, chosen in settings(rows, lengths, model.directory):
        with tempfile.TemporaryDirectory() as folder:
            written = str(write(Path(folder) / "rows.jsonl", chosen))
            common = (
                "--base",
                str(model.directory),
                "--max-length",
                str(MAX_LENGTH if model.kind == "causal" else 512),
            )
            programs = {
                "ours": ("engine.py", written, *common),
                "peer": ("peer.py", written, *common, "--kind", model.kind, "--output", folder, "--paced"),
            }
            found = take_turns(programs, arguments.rounds, arguments.seconds)
        rates = {name: [one["tokens"] / one["seconds"] for one in rounds] for name, rounds in found.items()}
        ratio = spread([mine / theirs for mine, theirs in zip(rates["ours"], rates["peer"], strict=True)])
        ours, peer = spread(rates["ours"]), spread(rates["peer"])
        lines.append(f"| {title} | {shown(ours, '.0f')} | {shown(peer, '.0f')} | {shown(ratio, '.2f')} |")
    command = f"python benchmarks/performance/scaling.py --case {arguments.case}"
    write_section(f"scaling {arguments.case}", lines, command, arguments.page)


def settings(
    rows: list[dict[str, Any]], lengths: tuple[int, ...], base: Path
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """What is measured: rows of each length, then each number of rows as they are."""
    for length in lengths:
        yield f"{ROWS}, of {length} tokens", of_length(rows, length, base)
    for count in COUNTS:
        yield f"{count:,}, as they are", rows[:count]


def of_length(rows: list[dict[str, Any]], length: int, base: Path) -> list[dict[str, Any]]:
    """ROWS rows whose premise and hypothesis have so many tokens together, give or take two."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)

    def tokens(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    text = tokens(" ".join(row["premise"] for row in rows[: 2 * ROWS]))
    found = []
    for number, row in enumerate(rows[:ROWS]):
        hypothesis = tokens(row["hypothesis"])[: length // 2]
        begin = number * 97 % (len(text) - length)
        premise = text[begin : begin + length - len(hypothesis)]
        found.append({**row, "premise": tokenizer.decode(premise), "hypothesis": tokenizer.decode(hypothesis)})
    return found


if __name__ == "__main__":
    main()
