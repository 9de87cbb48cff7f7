"""The whole model with the adapter in its weights, for engines that take no adapters."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors import safe_open

from lyra_adapters_server.trainer.describe import Description
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.formats.ollama import MODELFILE, modelfile
from lyra_adapters_server.trainer.formats.source import NOT_AVAILABLE, PROMPT_FILE, Published
from lyra_adapters_server.trainer.identity import weight_files
from lyra_adapters_server.trainer.memory import available_bytes
from lyra_adapters_server.trainer.quiet import quiet_transformers

# Beside the weights, merging needs room for a module in float32.
_MARGIN = 1.2


def write_merged(published: Published, description: Description, target: Path, name: str) -> None:
    """Writes weights, configuration, tokenizer, prompt.json and, of a causal model, a Modelfile.

    A second copy of the base is read into the CPU's memory, in float32, and written so: in bfloat16 most of what a
    young adapter adds to a weight is below what the weight can tell apart. The warm base stays bare.

    Raises:
        TrainerError: FORMAT_NOT_AVAILABLE, if there is not enough memory; ADAPTER_LOAD_FAILED.
        OSError: If it can't be written.
    """
    _check_memory(description)
    encoder = description.family.is_encoder
    with quiet_transformers():
        model = _load(description)
        try:
            merged: Any = peft.PeftModel.from_pretrained(model, str(published.directory)).merge_and_unload()
        except (ValueError, RuntimeError, KeyError) as error:
            raise TrainerError(
                "ADAPTER_LOAD_FAILED", f"{name} does not fit the base model {description.card.alias}"
            ) from error
        if encoder and not description.card.has_head:
            labels = {int(index): label for label, index in published.prompt["label_indices"].items()}
            merged.config.id2label = labels
            merged.config.label2id = {label: index for index, label in labels.items()}
        merged.save_pretrained(target)
        description.tokenizer.save_pretrained(target)
    shutil.copyfile(published.directory / PROMPT_FILE, target / PROMPT_FILE)
    if not encoder:
        (target / MODELFILE).write_text(modelfile(published.prompt, name=name, source="."), encoding="utf-8")


def _load(description: Description) -> Any:
    options: dict[str, Any] = {}
    if description.family.is_encoder:
        # As load_base does: a head for something else has other shapes, and the adapter brings its own.
        options = {"config": description.settings, "ignore_mismatched_sizes": not description.card.has_head}
    return description.model_class.from_pretrained(
        description.files.directory, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, **options
    )


def _float32_bytes(file: Path) -> int:
    """What a file's weights take in float32."""
    with safe_open(file, "pt") as weights:
        return sum(4 * math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118 - no dict


def _check_memory(description: Description) -> None:
    need = _MARGIN * sum(_float32_bytes(file) for file in weight_files(description.files.directory))
    free = available_bytes(torch.device("cpu"))
    if need > free:
        raise TrainerError(
            NOT_AVAILABLE,
            f"merging needs {need / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are free now; PEFT's "
            "merge_and_unload does the same on another machine",
        )
