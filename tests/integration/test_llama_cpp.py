"""The GGUF adapter in the real llama.cpp: the label probabilities of transformers and peft, for each family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf_base import write_base
from llama_server import LlamaServer, softmax_over
from lyra_adapters_server.trainer.formats.gguf import ARCHITECTURES, write_gguf
from lyra_adapters_server.trainer.formats.source import read_published
from tiny_base import rows
from tiny_causal import FAMILIES, make_adapter, make_tiny_causal, reference_probabilities

# PEFT asks transformers for an attribute of an older name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

TOLERANCE = 0.02


def probabilities(
    directory: Path, family: str, count: int, **lora: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Label probabilities (rows, 3): transformers and llama.cpp with the adapter, both without it."""
    import transformers

    base = make_tiny_causal(directory / "base", family)
    adapter = make_adapter(directory / "adapter", base, **lora)
    write_gguf(
        read_published(adapter), transformers.AutoConfig.from_pretrained(base), directory / "user_feedback_v1.gguf"
    )
    cases = rows(count)
    tokens, labels, expected = reference_probabilities(base, cases, adapter)
    _, _, bare = reference_probabilities(base, cases, None, prompt_from=adapter)
    server = LlamaServer(write_base(base, directory / "base.gguf"), directory / "user_feedback_v1.gguf", context=512)
    vocabulary = len(transformers.AutoTokenizer.from_pretrained(base))
    found: dict[int, list[list[float]]] = {1: [], 0: []}
    for scale, answers in found.items():
        for ids in tokens:
            logs = server.next_token(ids, vocabulary, sampled=labels[0], adapter=scale)
            answers.append(softmax_over(labels, logs))
            assert server.label_probabilities(ids, labels, adapter=scale) == pytest.approx(answers[-1], abs=1e-3)
    return np.array(expected), np.array(found[1]), np.array(bare), np.array(found[0])


def check(name: str, expected: np.ndarray, found: np.ndarray, bare: np.ndarray, without: np.ndarray) -> None:
    same = (expected.argmax(axis=1) == found.argmax(axis=1)).mean()
    away = np.abs(expected - found).max(), np.abs(bare - without).max(), np.abs(found - without).max()
    print(f"\n| {name} | {len(found)} | {away[0]:.4f} | {100 * same:.1f} % | {away[1]:.4f} | {away[2]:.2f} |")
    # The adapter changes the answers clearly, otherwise agreement would prove nothing.
    assert np.abs(expected - bare).max(axis=1).mean() > 0.1
    assert np.abs(found - without).max(axis=1).mean() > 0.1
    assert np.abs(bare - without).max() < TOLERANCE
    assert np.abs(expected - found).max() < TOLERANCE
    assert same >= 0.98


def test_a_qwen2_adapter_answers_as_with_peft_on_200_rows(tmp_path: Path) -> None:
    check("qwen2", *probabilities(tmp_path, "qwen2", 200))


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "qwen2"])
def test_an_adapter_of_every_family_answers_as_with_peft(tmp_path: Path, family: str) -> None:
    check(family, *probabilities(tmp_path, family, 100))


@pytest.mark.parametrize(
    "lora",
    [
        pytest.param({"use_rslora": True, "r": 8, "lora_alpha": 8}, id="rslora"),
        pytest.param(
            {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {r"layers\.0\.mlp\.up_proj": 40}, "lora_alpha": 10},
            id="patterns",
        ),
    ],
)
def test_other_scales_are_kept(tmp_path: Path, lora: dict[str, Any]) -> None:
    check("llama, other scales", *probabilities(tmp_path, "llama", 30, **lora))


def test_every_family_that_is_offered_is_checked() -> None:
    assert set(FAMILIES) == set(ARCHITECTURES)
