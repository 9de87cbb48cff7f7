"""The published files that every form is made from, read without torch."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from lyra_adapters_server.trainer.errors import TrainerError

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
PROMPT_FILE = "prompt.json"

# The reason why a form can't be made; its message says what the engine can't take, and goes on after "because".
NOT_AVAILABLE = "FORMAT_NOT_AVAILABLE"

_LORA = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")


class Update(NamedTuple):
    """The update of one module: `a` is (rank, inputs), `b` is (outputs, rank), float32."""

    a: NDArray[np.float32]
    b: NDArray[np.float32]


@dataclass(frozen=True)
class Published:
    """A version's PEFT files.

    Attributes:
        config: adapter_config.json.
        prompt: prompt.json.
        updates: By the module's name in the base model.
        replaced: Names of the modules that the adapter replaces as a whole: a classification head.
    """

    directory: Path
    config: dict[str, Any]
    prompt: dict[str, Any]
    updates: dict[str, Update]
    replaced: tuple[str, ...]

    @property
    def alpha(self) -> float:
        """Over the rank, what B A is multiplied with in the modules that no pattern names."""
        rank = int(self.config["r"])
        return self.scale("") * rank if self.config.get("use_rslora") else float(self.config["lora_alpha"])

    def scale(self, module: str) -> float:
        """What B A is multiplied with in a module, as PEFT computes it; rsLoRA is arXiv:2312.03732."""
        rank = _by_pattern(self.config.get("rank_pattern"), module, self.config["r"])
        alpha = _by_pattern(self.config.get("alpha_pattern"), module, self.config["lora_alpha"])
        return float(alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank))


def read_published(directory: Path) -> Published:
    """Reads a version's files.

    Raises:
        TrainerError: ADAPTER_LOAD_FAILED, if one is missing or unreadable; FORMAT_NOT_AVAILABLE, if the adapter is
            more than plain LoRA.
    """
    try:
        config = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
        prompt = json.loads((directory / PROMPT_FILE).read_text(encoding="utf-8"))
        with safe_open(directory / WEIGHTS_FILE, framework="numpy") as weights:
            tensors = {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118 - not a dict
    except (OSError, ValueError, SafetensorError) as error:
        raise TrainerError("ADAPTER_LOAD_FAILED", f"the files of {directory.name} can't be read") from error
    for key, plain in (("use_dora", False), ("bias", "none"), ("fan_in_fan_out", False)):
        if config.get(key, plain) != plain:
            raise TrainerError(NOT_AVAILABLE, f"it is more than plain LoRA ({key} is {config[key]})")
    sides: dict[str, dict[str, NDArray[np.float32]]] = {}
    replaced: set[str] = set()
    for name in sorted(tensors):
        if match := _LORA.fullmatch(name):
            sides.setdefault(match["module"], {})[match["side"]] = tensors[name].astype(np.float32)
        else:
            replaced.add(name.removeprefix("base_model.model.").rpartition(".")[0])
    updates = {module: Update(side["A"], side["B"]) for module, side in sides.items()}
    return Published(directory, config, prompt, updates, tuple(sorted(replaced)))


def _by_pattern(pattern: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    # PEFT takes the first pattern that the name ends with.
    return next((value for key, value in (pattern or {}).items() if re.match(rf"(.*\.)?({key})$", module)), default)
