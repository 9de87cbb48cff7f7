"""Features of the frozen demo base for benchmarks/learning/gate.py: no training, two minutes on two quiet cores.

    python benchmarks/learning/features.py OUTPUT.npz [--data DIR]

For each row: the hidden states at the answer's place, of the last and of a middle layer.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from lyra_adapters_server.feedback.general import shipped_rows
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.data import encode_pairs, make_batch, split_by_length
from lyra_adapters_server.trainer.spec import BaseModelConfig, WorkerConfig
from lyra_adapters_server.types import LABELS, Pair

ROOT = Path(__file__).resolve().parents[2]
SETS = ("scifact_train", "checkcovid_train", "scifact_dev", "checkcovid_dev")
MIDDLE, TOKENS = 18, 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "nli")
    arguments = parser.parse_args()
    sets = {name: read(arguments.data / f"{name}.jsonl") for name in SETS}
    sets["general"] = [row.model_dump(mode="json") for row in shipped_rows().anchor]
    cache = str(Path("~/.cache/lyra-adapters").expanduser())
    bases = Bases(WorkerConfig(bases=(BaseModelConfig(alias="demo", source="demo"),), cache_dir=cache))
    for _ in bases.prepare("demo"):
        pass
    found: dict[str, Any] = {}
    with bases.use("demo") as base:
        # The trainer's own computes no states but those that a head reads.
        body: Any = transformers.AutoModel.from_pretrained(base.card.identity.id, dtype=torch.bfloat16).eval()
        for name, rows in sets.items():
            pairs = [Pair(premise=row["premise"], hypothesis=row["hypothesis"]) for row in rows]
            encoded = encode_pairs(pairs, base.encoder, 512)
            features = np.zeros((len(rows), 2 * body.config.hidden_size), dtype=np.float32)
            for chosen in split_by_length([len(row.tokens) for row in encoded], TOKENS):
                batch = make_batch([encoded[index] for index in chosen], base.padding, base.device)
                with torch.inference_mode():
                    states = body(input_ids=batch.tokens, use_cache=False, output_hidden_states=True).hidden_states
                place = (torch.arange(len(chosen)), batch.lengths - 1)
                features[chosen] = torch.cat([states[-1][place], states[MIDDLE][place]], dim=1).float().numpy()
            labels = [LABELS.index(row.get("label") or row["correct_label"]) for row in rows]
            found |= {f"{name}_f": features, f"{name}_y": np.array(labels)}
            found[f"{name}_g"] = np.array([row["group"] for row in rows])
            print(f"{name}: {len(rows)} rows", flush=True)
    np.savez(arguments.output, **found)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


if __name__ == "__main__":
    main()
