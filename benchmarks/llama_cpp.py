"""The demo base with a trained adapter in llama.cpp, against transformers and peft, on 200 rows of real data.

    python benchmarks/llama_cpp.py --work DIR [--data DIR] [--output docs/results/llama_cpp.md]

Trains an adapter over the service, downloads it as GGUF and merged, writes the base as F16 GGUF, and asks the real
llama.cpp (wheel xllamacpp) for the three labels' probabilities, with the adapter and without. DIR keeps the training
and the answers, so that a second run goes on. Takes about 8 minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "tests")]
from gguf_base import write_base  # noqa: E402
from llama_server import LlamaServer, softmax_over  # noqa: E402
from lyra_adapters import AdapterClient  # noqa: E402
from real_data import cpu_name, read, write  # noqa: E402
from score_peft import LABELS, classify  # noqa: E402
from serving import COMMAND, serving  # noqa: E402

SETS = ("scifact", "checkcovid")
TRAINING_ROWS, EPOCHS = 160, 2
ROWS = 200
# Of the 49,152 tokens; the labels are always among them.
LIKELIEST = 5000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "nli")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results" / "llama_cpp.md")
    arguments = parser.parse_args()
    if not (arguments.data / "scifact_dev.jsonl").exists():
        print(f"no data in {arguments.data}; give --data", file=sys.stderr)
        return 2
    if not (arguments.work / "merged" / "config.json").exists():
        train(arguments.work, arguments.data)
    chosen = [row for name in SETS for row in read(arguments.data / f"{name}_dev.jsonl")[: ROWS // 2]]
    report = compare(arguments.work, chosen)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(report, encoding="utf-8")
    print(report)
    return 0


def train(work: Path, data: Path) -> None:
    """Trains over the service and downloads the version in two forms."""
    rows = [row for name in SETS for row in read(data / f"{name}_train.jsonl")[: TRAINING_ROWS // 2]]
    work.mkdir(parents=True, exist_ok=True)
    write(work / "train.jsonl", [{**row, "id": f"row-{number}"} for number, row in enumerate(rows)])
    with serving(work / "home", "--base-model", "demo") as address:
        environment = {**os.environ, "LYRA_ADAPTERS_SERVER": address}
        flags = ["--adapter", "real", "--activation", "always", "--force", "--epochs", str(EPOCHS)]
        subprocess.run([*COMMAND, "train", str(work / "train.jsonl"), *flags], env=environment, check=True)
        with AdapterClient(address) as client:
            for form in ("gguf", "merged"):
                begun = time.monotonic()
                client.download("real", work / form, version="v1", format=form)
                print(f"{form}: made and downloaded in {time.monotonic() - begun:.1f} s")


def compare(work: Path, rows: list[dict[str, Any]]) -> str:
    """Asks each engine for the rows' label probabilities; returns the report in Markdown."""
    version = work / "home" / "real_v1"
    prompt = json.loads((version / "prompt.json").read_text())
    base = json.loads((version / "adapter_config.json").read_text())["base_model_name_or_path"]
    tokenizer = AutoTokenizer.from_pretrained(base)

    def in_transformers(model_directory: str, adapter: Path | None = None) -> np.ndarray:
        model: Any = AutoModelForCausalLM.from_pretrained(model_directory, dtype=torch.float32)
        model = PeftModel.from_pretrained(model, adapter) if adapter else model
        return classify(model.eval(), tokenizer, prompt, rows).numpy()

    bare = kept(work / "bare.npy", lambda: in_transformers(base))
    with_peft = kept(work / "peft.npy", lambda: in_transformers(base, version))
    merged = kept(work / "merged.npy", lambda: in_transformers(str(work / "merged")))

    gguf = work / "base-f16.gguf"
    if not gguf.exists():
        write_base(Path(base), gguf, pre_tokenizer="smollm")
    server = LlamaServer(gguf, work / "gguf" / "real_v1.gguf", threads=os.cpu_count() or 1, context=2048)
    labels = [prompt["label_token_ids"][label] for label in LABELS]
    texts = [
        prompt["template"].replace("{hypothesis}", row["hypothesis"]).replace("{premise}", row["premise"])
        for row in rows
    ]
    tokens = [tokenizer(text, add_special_tokens=prompt["add_special_tokens"])["input_ids"] for text in texts]
    same_tokens = sum(server.tokenize(text) == ids for text, ids in zip(texts, tokens, strict=True))

    def in_llama_cpp(scale: float) -> np.ndarray:
        """The labels' probabilities, and in a fourth column whether the likeliest token of all is a label's."""
        found = []
        for ids in tokens:
            logs = server.next_token(ids, LIKELIEST, sampled=labels[0], adapter=scale)
            found.append([*softmax_over(labels, logs), next(iter(logs)) in labels])
        return np.array(found)

    engine, engine_bare = (
        kept(work / f"llama_cpp_{scale}.npy", lambda scale=scale: in_llama_cpp(scale)) for scale in (1, 0)
    )
    answered = int(engine[:, 3].sum())
    engine, engine_bare = engine[:, :3], engine_bare[:, :3]
    correct = np.array([LABELS.index(row["label"]) for row in rows])
    lines = [
        "# llama.cpp against transformers and peft",
        "",
        f"`python benchmarks/llama_cpp.py --work DIR` on {os.cpu_count()} cores ({cpu_name()}), no GPU.",
        "",
        f"Base: demo (SmolLM2-135M-Instruct, a Llama) as F16 GGUF. Adapter: rank 8, trained on {TRAINING_ROWS} rows "
        f"for {EPOCHS} epochs over the service, downloaded as GGUF. {len(rows)} rows of the dev sets of SciFact and "
        f"Check-COVID. llama.cpp's tokens equal those of transformers on {same_tokens} of {len(rows)} rows; with the "
        f"adapter, its likeliest token of all is a label's word on {answered} of {len(rows)}.",
        "",
        "| compared, label probabilities | largest difference | mean difference | same label | accuracy |",
        "| --- | --- | --- | --- | --- |",
        line("llama.cpp with the GGUF adapter / transformers + peft", engine, with_peft, correct),
        line("llama.cpp without it / transformers without it", engine_bare, bare, correct),
        line("llama.cpp with the adapter / without it", engine, engine_bare, correct),
        line("merged model in transformers / transformers + peft", merged, with_peft, correct),
        "",
        "Transformers computes in float32, llama.cpp with F16 weights. Accuracy is that of the first of the two.",
        "",
    ]
    return "\n".join(lines)


def kept(file: Path, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """What was computed before, or is now."""
    if not file.exists():
        np.save(file, compute())
    found: np.ndarray = np.load(file)
    return found


def line(name: str, a: np.ndarray, b: np.ndarray, correct: np.ndarray) -> str:
    """A row of the table: how far two engines' probabilities (rows, 3) are apart."""
    difference = np.abs(a - b).max(axis=1)
    same = (a.argmax(axis=1) == b.argmax(axis=1)).mean()
    accuracy = (a.argmax(axis=1) == correct).mean()
    return f"| {name} | {difference.max():.4f} | {difference.mean():.4f} | {100 * same:.1f} % | {accuracy:.3f} |"


if __name__ == "__main__":
    sys.exit(main())
