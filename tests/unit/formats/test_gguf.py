"""The GGUF adapter's layout; that llama.cpp computes the same with it is tests/integration/test_llama_cpp.py."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.formats.gguf import write_gguf
from lyra_adapters_server.trainer.formats.source import read_published
from numpy_adapter import PREFIX, base_config, publish


def made(directory: Path, **base: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The fields and tensors of the file that is made."""
    target = directory.parent / f"{directory.name}.gguf"
    write_gguf(read_published(directory), base_config(**base), target)
    reader = gguf.GGUFReader(target)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    return fields, {tensor.name: np.array(tensor.data) for tensor in reader.tensors}


def reason(directory: Path, **base: Any) -> str:
    with pytest.raises(TrainerError) as caught:
        made(directory, **base)
    assert caught.value.reason == "FORMAT_NOT_AVAILABLE"
    return caught.value.message


def test_fields_and_names_are_llama_cpps(tmp_path: Path) -> None:
    fields, tensors = made(publish(tmp_path / "user_feedback_v1"))
    assert fields["general.type"] == "adapter"
    assert fields["adapter.type"] == "lora"
    assert fields["general.architecture"] == "qwen2"
    assert fields["general.name"] == "user_feedback_v1"
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "blk.0.attn_q.weight.lora_a": (4, 8),
        "blk.0.attn_q.weight.lora_b": (16, 4),
        "blk.0.ffn_down.weight.lora_a": (4, 12),
        "blk.0.ffn_down.weight.lora_b": (8, 4),
    }
    assert all(tensor.dtype == np.float32 for tensor in tensors.values())


@pytest.mark.parametrize(
    ("config", "alpha"),
    [
        ({"lora_alpha": 16}, 16.0),
        ({"lora_alpha": 0.5}, 0.5),
        ({"lora_alpha": 16, "use_rslora": True}, 32.0),
        ({"lora_alpha": 16, "use_rslora": True, "r": 8}, 16 * math.sqrt(8)),
    ],
)
def test_alpha_over_the_rank_is_the_scale(tmp_path: Path, config: dict[str, Any], alpha: float) -> None:
    rank = config.get("r", 4)
    fields, _ = made(publish(tmp_path / "user_feedback_v1", ranks=(rank, rank), **config))
    assert fields["adapter.lora.alpha"] == pytest.approx(alpha, rel=1e-7)
    if float(alpha).is_integer():
        assert fields["adapter.lora.alpha"] == alpha


def test_a_module_with_a_scale_of_its_own_keeps_it(tmp_path: Path) -> None:
    directory = publish(
        tmp_path / "user_feedback_v1", ranks=(2, 4), rank_pattern={"q_proj": 2}, alpha_pattern={"down_proj": 40}
    )
    fields, tensors = made(directory)
    updates = read_published(directory).updates
    for module, tensor, scale in (
        ("model.layers.0.self_attn.q_proj", "blk.0.attn_q.weight", 16 / 2),
        ("model.layers.0.mlp.down_proj", "blk.0.ffn_down.weight", 40 / 4),
    ):
        a, b = tensors[f"{tensor}.lora_a"], tensors[f"{tensor}.lora_b"]
        found = fields["adapter.lora.alpha"] / b.shape[1] * b @ a
        np.testing.assert_allclose(found, scale * updates[module].b @ updates[module].a, rtol=1e-5)


@pytest.mark.parametrize(("family", "heads"), [("llama", 4), ("mistral", 4), ("qwen2", 0), ("gemma2", 0)])
def test_only_llamas_heads_are_reordered(tmp_path: Path, family: str, heads: int) -> None:
    directory = publish(tmp_path / "user_feedback_v1")
    _, tensors = made(directory, model_type=family)
    b = read_published(directory).updates["model.layers.0.self_attn.q_proj"].b
    # llama.cpp turns rows 2i and 2i+1 of a head together, transformers rows i and i + half.
    half = 16 // heads // 2 if heads else 0
    order = [head * 2 * half + side * half + i for head in range(heads) for i in range(half) for side in (0, 1)]
    np.testing.assert_array_equal(tensors["blk.0.attn_q.weight.lora_b"], b[order] if heads else b)
    down = read_published(directory).updates["model.layers.0.mlp.down_proj"].b
    np.testing.assert_array_equal(tensors["blk.0.ffn_down.weight.lora_b"], down)


def test_the_same_adapter_gives_the_same_bytes(tmp_path: Path) -> None:
    published = read_published(publish(tmp_path / "user_feedback_v1"))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_gguf(published, base_config(), tmp_path / name / "x_v1.gguf")
    assert (tmp_path / "a" / "x_v1.gguf").read_bytes() == (tmp_path / "b" / "x_v1.gguf").read_bytes()


def test_a_classification_head_is_refused(tmp_path: Path) -> None:
    head = {f"{PREFIX}classifier.weight": np.zeros((3, 8), np.float32)}
    said = reason(publish(tmp_path / "user_feedback_v1", extra=head), model_type="bert")
    assert "classification head" in said
    assert "classifier" in said


def test_what_llama_cpp_does_not_have_is_refused(tmp_path: Path) -> None:
    assert "`deberta-v2`" in reason(publish(tmp_path / "a_v1"), model_type="deberta-v2")
    assert "`model.layers.0.mlp.odd_proj`" in reason(
        publish(tmp_path / "b_v1", modules=("model.layers.0.self_attn.q_proj", "model.layers.0.mlp.odd_proj"))
    )
    assert "lm_head" in reason(publish(tmp_path / "c_v1", modules=("lm_head", "model.layers.0.mlp.down_proj")))
    assert "use_dora" in reason(publish(tmp_path / "d_v1", use_dora=True))
    assert "alpha is 0" in reason(publish(tmp_path / "e_v1", lora_alpha=0))


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    directory = publish(tmp_path / "user_feedback_v1")
    (directory / "adapter_model.safetensors").write_bytes(b"short")
    with pytest.raises(TrainerError) as caught:
        read_published(directory)
    assert caught.value.reason == "ADAPTER_LOAD_FAILED"
