"""Memory that the trainer needs, by base model: computed from the model's shape, and measured where asked for.

Needs nothing but the standard library; `--measure` needs the extra `server`, Linux, and starts a server of its own.

    python docs/memory.py                        the table of docs/operations.md
    python docs/memory.py --config DIRECTORY     one model, from its config.json
    python docs/memory.py --measure BASE [FLAG…] trains on 24 long rows and reads VmRSS and VmHWM from /proc; flags are
                                                 the server's, for example --dtype float32
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GIB = 1024**3
MIB = 1024**2
ROWS = Path(__file__).resolve().parent.parent / "examples" / "sleep_corrections.jsonl"


@dataclass(frozen=True)
class Shape:
    """What the weights' size follows from: a decoder with grouped-query attention and a gated MLP."""

    name: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    tied: bool
    biases: bool = False

    @property
    def parameters(self) -> int:
        """Parameters of the base."""
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        attention = 2 * self.hidden * queries + 2 * self.hidden * keys
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        if self.biases:
            layer += queries + 2 * keys
        return self.layers * layer + self.hidden + (1 if self.tied else 2) * self.vocabulary * self.hidden

    def adapter_parameters(self, rank: int) -> int:
        """Parameters of an adapter on the query and value projections."""
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        return self.layers * rank * (2 * self.hidden + queries + keys)

    def weights(self, bytes_each: int) -> int:
        """Bytes of the frozen weights."""
        return self.parameters * bytes_each

    def training_state(self, rank: int) -> int:
        """Bytes of an adapter in training: weights, gradients, two moments and the best step's copy, float32."""
        return self.adapter_parameters(rank) * 4 * 5


# Shapes as in the models' published config.json.
MODELS = (
    Shape("SmolLM2-135M-Instruct (`demo`)", 30, 576, 1536, 9, 3, 64, 49152, tied=True),
    Shape("Qwen2.5-0.5B-Instruct", 24, 896, 4864, 14, 2, 64, 151936, tied=True, biases=True),
    Shape("Qwen2.5-1.5B-Instruct", 28, 1536, 8960, 12, 2, 128, 151936, tied=True, biases=True),
    Shape("Qwen2.5-3B-Instruct", 36, 2048, 11008, 16, 2, 128, 151936, tied=True, biases=True),
    Shape("Qwen2.5-7B-Instruct", 28, 3584, 18944, 28, 4, 128, 152064, tied=False, biases=True),
)


def from_config(directory: Path) -> Shape:
    """The shape of a model of the Llama or Qwen kind in a local directory."""
    config: dict[str, Any] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    heads = config["num_attention_heads"]
    return Shape(
        name=directory.name,
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        intermediate=config["intermediate_size"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_size=config.get("head_dim") or config["hidden_size"] // heads,
        vocabulary=config["vocab_size"],
        tied=config.get("tie_word_embeddings", False),
        biases=config["model_type"] == "qwen2",
    )


def table(models: tuple[Shape, ...], rank: int) -> str:
    """The computed sizes as Markdown."""
    lines = [
        f"| base model | parameters | weights, bfloat16 | weights, float32 | adapter (rank {rank}) in training |",
        "|---|---:|---:|---:|---:|",
    ]
    for model in models:
        sizes = [f"{model.weights(width) / GIB:.2f} GiB" for width in (2, 4)]
        state = f"{model.training_state(rank) / MIB:.1f} MiB"
        lines.append(f"| {model.name} | {model.parameters / 1e6:,.1f} M | {' | '.join(sizes)} | {state} |")
    return "\n".join(lines)


def memory_of(pid: int) -> dict[str, int]:
    """Resident memory of a process now (VmRSS) and at its highest (VmHWM), in MiB."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return {key: int(value) // 1024 for key, value in re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", text)}


def measure(base: str, flags: list[str]) -> None:
    """Runs a server, waits for the base, trains, and prints the memory of both processes on the way.

    Every row is cut at `max_length`, so that micro-batches are as large as they get with the default settings.
    """
    from lyra_adapters import AdapterClient, Started

    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()[:24]]
    rows = [{**row, "premise": " ".join([row["premise"]] * 20)} for row in rows]
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "lyra_adapters.cli", "serve", "--home", home, "--listen", "127.0.0.1:0"]
        command += ["--log-format", "json", "--base-model", base, *flags]
        with subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8") as server:
            try:
                address, worker = _wait_until_loaded(server)
                _print("base loaded", server.pid, worker)
                with AdapterClient(address) as client:
                    for event in client.train(rows, trigger={"force": True}, training={"epochs": 1}):
                        if isinstance(event.event, Started):
                            print(f"trains in {event.event.dtype} on {event.event.device}", flush=True)
                _print("after training", server.pid, worker)
            finally:
                server.terminate()


def _wait_until_loaded(server: subprocess.Popen[str]) -> tuple[str, int]:
    found: dict[str, Any] = {}
    assert server.stderr
    for line in server.stderr:
        if line.startswith("{"):
            entry = json.loads(line)
            found[entry["event"]] = entry
        if "base_loaded" in found:
            threading.Thread(target=server.stderr.read, daemon=True).start()
            return found["serving"]["address"], found["worker_started"]["pid"]
    raise SystemExit("the server ended before its base model was loaded")


def _print(when: str, server: int, worker: int) -> None:
    for name, pid in (("server", server), ("trainer", worker)):
        memory = memory_of(pid)
        print(f"{when}: {name} {memory['VmRSS']} MiB, at its highest {memory['VmHWM']} MiB", flush=True)


def main() -> int:
    """Prints the table, or measures; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, metavar="DIRECTORY", help="a model's directory, with its config.json")
    parser.add_argument("--rank", type=int, default=8, help="rank of the adapter")
    parser.add_argument("--measure", metavar="BASE", help="measure with this base, such as `demo`")
    options, flags = parser.parse_known_args()
    if flags and not options.measure:
        parser.error(f"only --measure hands flags to the server: {' '.join(flags)}")
    if options.measure:
        measure(options.measure, flags)
    else:
        print(table((from_config(options.config),) if options.config else MODELS, options.rank))
    return 0


if __name__ == "__main__":
    sys.exit(main())
