"""Scores a published adapter with nothing but transformers and peft: an outside check of the service's figures.

    python benchmarks/score_peft.py ROWS.jsonl --base DIRECTORY_OR_ID [--adapter DIRECTORY] [--prompt prompt.json]

Prints one JSON object: rows, accuracy, macro_f1, brier, confusion (rows: correct, columns: predicted), predictions,
probabilities.
Without --adapter the bare base is scored, under the prompt that --prompt names.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

LABELS = ["SUPPORTS", "REFUTES", "NEUTRAL"]
BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--base", required=True)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--prompt", type=Path)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    arguments = parser.parse_args()
    prompt = json.loads((arguments.prompt or arguments.adapter / "prompt.json").read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(arguments.base)
    model: Any = AutoModelForCausalLM.from_pretrained(arguments.base, dtype=getattr(torch, arguments.dtype))
    if arguments.adapter:
        model = PeftModel.from_pretrained(model, arguments.adapter)
    model.eval()
    rows = [json.loads(line) for line in arguments.rows.read_text(encoding="utf-8").splitlines() if line.strip()]
    # The bare base has none: the temperature is the adapter's.
    temperature = prompt.get("temperature", 1.0) if arguments.adapter else 1.0
    probabilities = classify(model, tokenizer, prompt, rows, temperature)
    print(json.dumps(scores(rows, probabilities)))


def classify(
    model: Any, tokenizer: Any, prompt: dict[str, Any], rows: list[dict[str, Any]], temperature: float = 1.0
) -> torch.Tensor:
    """Probabilities (rows, 3) in the order of LABELS, a few rows of like length at a time."""
    tokenizer.padding_side = "right"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    words = torch.tensor([prompt["label_token_ids"][label] for label in LABELS])
    texts = [
        prompt["template"].replace("{hypothesis}", row["hypothesis"]).replace("{premise}", row["premise"])
        for row in rows
    ]
    found = torch.empty(len(rows), len(LABELS))
    order = sorted(range(len(rows)), key=lambda index: len(texts[index]))
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        inputs = tokenizer(
            [texts[index] for index in chosen],
            return_tensors="pt",
            padding=True,
            add_special_tokens=prompt["add_special_tokens"],
        )
        last = inputs["attention_mask"].sum(dim=1) - 1
        with torch.inference_mode():
            logits = model(**inputs).logits[torch.arange(len(chosen)), last].float()
        found[chosen] = torch.softmax(logits[:, words] / temperature, dim=1)
    return found


def scores(rows: list[dict[str, Any]], probabilities: torch.Tensor) -> dict[str, Any]:
    """Accuracy, macro-F1 over the three labels, Brier score summed over classes, and the confusion."""
    correct = torch.tensor([LABELS.index(row.get("correct_label") or row["label"]) for row in rows])
    predicted = probabilities.argmax(dim=1)
    confusion = [[int(((correct == i) & (predicted == j)).sum()) for j in range(3)] for i in range(3)]
    f1 = []
    for i in range(3):
        found, there = sum(line[i] for line in confusion), sum(confusion[i])
        f1.append(2 * confusion[i][i] / (found + there) if found + there else 0.0)
    errors = probabilities - torch.nn.functional.one_hot(correct, 3)
    return {
        "rows": len(rows),
        "accuracy": float((predicted == correct).float().mean()),
        "macro_f1": sum(f1) / 3,
        "brier": float((errors**2).sum(dim=1).mean()),
        "confusion": confusion,
        "predictions": [LABELS[i] for i in predicted.tolist()],
        "probabilities": [[round(p, 6) for p in row] for row in probabilities.tolist()],
    }


if __name__ == "__main__":
    main()
