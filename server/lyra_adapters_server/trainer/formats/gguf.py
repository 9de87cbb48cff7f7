"""A LoRA adapter as GGUF, which llama.cpp loads beside a GGUF of the base model.

The layout is llama.cpp's (its `convert_lora_to_gguf.py` and `src/llama-adapter.cpp`): `general.type` is `adapter`,
`adapter.type` is `lora`, and each adapted tensor NAME of the base has NAME.lora_a and NAME.lora_b. llama.cpp multiplies
B A with `adapter.lora.alpha` over the pair's rank, and refuses a file with any other tensor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.formats.source import NOT_AVAILABLE, Published


@dataclass(frozen=True)
class Architecture:
    """A family as llama.cpp has it.

    Attributes:
        name: llama.cpp's.
        reorders_heads: Its rotation pairs neighbouring values of a head, that of transformers the head's two halves;
            so the rows of q and k are in another order.
    """

    name: gguf.MODEL_ARCH
    reorders_heads: bool = False


# By the base configuration's model_type; each is checked against llama.cpp itself in tests/integration.
ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture(gguf.MODEL_ARCH.LLAMA, reorders_heads=True),
    # To llama.cpp, Mistral is a Llama.
    "mistral": Architecture(gguf.MODEL_ARCH.LLAMA, reorders_heads=True),
    "qwen2": Architecture(gguf.MODEL_ARCH.QWEN2),
    "qwen3": Architecture(gguf.MODEL_ARCH.QWEN3),
    "gemma": Architecture(gguf.MODEL_ARCH.GEMMA),
    "gemma2": Architecture(gguf.MODEL_ARCH.GEMMA2),
    "gemma3_text": Architecture(gguf.MODEL_ARCH.GEMMA3),
}


def write_gguf(published: Published, base: Any, target: Path) -> None:
    """Writes the adapter as a GGUF file, the same bytes for the same adapter.

    Args:
        published: The adapter.
        base: The base model's transformers configuration.
        target: The file; its stem is the adapter's name in it.

    Raises:
        TrainerError: FORMAT_NOT_AVAILABLE, if llama.cpp could not load it.
        OSError: If it can't be written.
    """
    architecture = _architecture(published, base)
    alpha = published.alpha
    writer = gguf.GGUFWriter(target, gguf.MODEL_ARCH_NAMES[architecture.name])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    # llama.cpp reads a float; a whole number stays one.
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    writer.add_name(target.stem)
    names = gguf.get_tensor_name_map(architecture.name, base.num_hidden_layers)
    for module, update in published.updates.items():
        tensor = names.get_name(f"{module}.weight", try_suffixes=(".weight",))
        if tensor is None or (module == "lm_head" and base.tie_word_embeddings):
            raise TrainerError(NOT_AVAILABLE, f"llama.cpp has no weight of its own for the adapted module `{module}`")
        b = update.b
        # llama.cpp knows one alpha; where a module's scale differs, B takes up the difference.
        ratio = published.scale(module) * update.a.shape[0] / alpha
        if not math.isclose(ratio, 1, rel_tol=1e-6):
            b = b * np.float32(ratio)
        if architecture.reorders_heads:
            b = _reorder(module, b, base)
        writer.add_tensor(f"{tensor}.lora_a", np.ascontiguousarray(update.a))
        writer.add_tensor(f"{tensor}.lora_b", np.ascontiguousarray(b))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _architecture(published: Published, base: Any) -> Architecture:
    """The base's architecture in llama.cpp. Raises TrainerError with what it can't take."""
    if published.replaced:
        raise TrainerError(
            NOT_AVAILABLE,
            f"it brings a classification head of its own ({', '.join(published.replaced)}), and llama.cpp takes "
            "nothing but LoRA pairs; PEFT serves it",
        )
    found = ARCHITECTURES.get(base.model_type)
    if found is None:
        raise TrainerError(
            NOT_AVAILABLE,
            f"llama.cpp answers with words, and has no classification head for a `{base.model_type}` model; adapters "
            f"of {', '.join(ARCHITECTURES)} can be had so, and PEFT serves this one",
        )
    if published.alpha == 0:
        raise TrainerError(NOT_AVAILABLE, "its alpha is 0, which llama.cpp takes for a scale of 1")
    return found


def _reorder(module: str, b: NDArray[np.float32], base: Any) -> NDArray[np.float32]:
    """Puts the rows of a q or k projection's B in llama.cpp's order; those of others stay."""
    heads = {"q_proj": base.num_attention_heads, "k_proj": base.num_key_value_heads}.get(module.rpartition(".")[2])
    return b if heads is None else b.reshape(heads, 2, -1, b.shape[1]).swapaxes(1, 2).reshape(b.shape)
