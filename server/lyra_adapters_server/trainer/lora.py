"""One adapter on a warm base: PEFT's layers and files, put into the model only while a micro-batch runs.

Between micro-batches the base is bare, so any number of adapters, and the base itself, take turns on it.
"""

from __future__ import annotations

import copy
import json
import math
import types
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import peft
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.fused import Dropout, FusedLora
from lyra_adapters_server.trainer.lower_half import LowerHalf
from lyra_adapters_server.trainer.precision import linear
from lyra_adapters_server.types import BaseIdentity, LoraConfig

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"

# What PEFT puts before a module's name in its files.
_PREFIX = "base_model.model."
_ADAPTER = "default"

# The spread of weights drawn for a new head, as transformers draws them for these families.
_HEAD_SPREAD = 0.02


@dataclass(frozen=True)
class _Site:
    parent: nn.Module
    name: str
    base: nn.Module
    layer: nn.Module


# Which adapter is in a model.
_ATTACHED: WeakKeyDictionary[nn.Module, Adapter] = WeakKeyDictionary()


@contextmanager
def bare(model: nn.Module) -> Iterator[None]:
    """Takes the attached adapter, if there is one, out of a model for a while."""
    adapter = _ATTACHED.pop(model, None)
    if adapter is None:
        yield
        return
    adapter._detach()
    try:
        yield
    finally:
        _ATTACHED[model] = adapter
        adapter._attach()


class Adapter:
    """The LoRA layers of one adapter for one base model, and the head that it brings along, if any.

    Attributes:
        config: PEFT's configuration.
        parameters: Float32 tensors by their names in the file: A is (rank, inputs), B is (outputs, rank).
        head: Float32 copies of the modules to save, in the configuration's order: trained whole, not by LoRA.
        dropout: The masks in training; None in evaluation.
        lower_half: The layers that it leaves alone, where it adapts the upper half and trains.
    """

    def __init__(self, model: nn.Module, config: Any) -> None:
        """Builds the layers, with A and B as PEFT initialises them, and leaves the model bare.

        Args:
            model: The base model, bare.
            config: A peft.LoraConfig.

        Raises:
            TrainerError: TARGET_MODULES_UNKNOWN, if the model has none of the target modules; ADAPTER_MISMATCH, if
                it has none of the modules to save.
        """
        self.config = config
        self.dropout: Dropout | None = None
        self.lower_half: LowerHalf | None = None
        self.parameters: dict[str, nn.Parameter] = {}
        self.head: list[nn.Module] = []
        self._model = model
        self._sites: list[_Site] = []
        before = set(vars(model))
        bare = dict(model.named_modules())
        # The modules to save are ours to keep: PEFT would leave its wrappers in the model.
        layers_only = copy.copy(config)
        layers_only.modules_to_save = None
        try:
            peft.inject_adapter_in_model(layers_only, model, adapter_name=_ADAPTER)
        except ValueError as error:
            raise TrainerError(
                "TARGET_MODULES_UNKNOWN", f"the base model has no such target modules: {error}"
            ) from None
        for name, layer in list(model.named_modules()):
            if isinstance(layer, peft.tuners.lora.LoraLayer):
                self._take(bare, name, layer)
        self._detach()
        for name in config.modules_to_save or ():
            self._take_head(bare, name)
        # PEFT leaves its configuration on the model; the next adapter must not find it.
        for attribute in set(vars(model)) - before:
            delattr(model, attribute)

    @property
    def rank(self) -> int:
        """The rank of every layer."""
        return int(self.config.r)

    @property
    def scale(self) -> float:
        """What B A is multiplied with."""
        rank = math.sqrt(self.config.r) if self.config.use_rslora else self.config.r
        return float(self.config.lora_alpha / rank)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Puts the layers into the model for the time of a forward and backward pass."""
        self._attach()
        _ATTACHED[self._model] = self
        try:
            yield
        finally:
            del _ATTACHED[self._model]
            self._detach()
            if self.dropout is not None:
                self.dropout.finish()

    def initialise(self, seed: int, new: Collection[str] = ()) -> None:
        """Draws A as PEFT does (Kaiming uniform) and zeroes B, from a generator of its own.

        Args:
            seed: Of the generator.
            new: Names of the model's parameters that no file holds; where the head has them, they are drawn too. The
                rest of the head starts as the base's.
        """
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                if ".lora_A." in name:
                    bound = 1 / math.sqrt(parameter.shape[1])
                    parameter.copy_(torch.rand(parameter.shape, generator=generator) * 2 * bound - bound)
                elif ".lora_B." in name:
                    parameter.zero_()
                elif name.removeprefix(_PREFIX) in new:
                    drawn = torch.randn(parameter.shape, generator=generator) * _HEAD_SPREAD
                    parameter.copy_(drawn if parameter.dim() > 1 else torch.zeros_like(drawn))

    def load(self, directory: Path) -> None:
        """Takes the weights of a file with the same layers and shapes.

        Raises:
            TrainerError: ADAPTER_MISMATCH, if names or shapes differ; ADAPTER_LOAD_FAILED.
        """
        weights = read_weights(directory)
        ours = {name: tuple(parameter.shape) for name, parameter in self.parameters.items()}
        if ours != {name: tuple(weight.shape) for name, weight in weights.items()}:
            raise TrainerError("ADAPTER_MISMATCH", f"the layers of {directory.name} do not fit this base model")
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])

    def continue_from(self, directory: Path) -> None:
        """Starts from a parent's weights: the function stays the parent's until the first step.

        Where the rank grows, the new rows of A keep their drawn values and the new columns of B are zero. Where the
        scale differs, B takes up the difference.

        Raises:
            TrainerError: CONTINUE_FROM_SHRINKS, if the parent has a larger rank or a target this adapter lacks;
                ADAPTER_MISMATCH; ADAPTER_LOAD_FAILED.
        """
        parent = read_config(directory)
        weights = read_weights(directory)
        if parent.r > self.config.r:
            raise TrainerError("CONTINUE_FROM_SHRINKS", f"the rank {self.config.r} is below the parent's {parent.r}")
        missing = sorted({name.split(".")[-3] for name in set(weights) - set(self.parameters)})
        if missing:
            raise TrainerError("CONTINUE_FROM_SHRINKS", f"the parent also adapts {', '.join(missing)}")
        parent_scale = parent.lora_alpha / (math.sqrt(parent.r) if parent.use_rslora else parent.r)
        with torch.no_grad():
            for name, weight in weights.items():
                mine = self.parameters[name]
                if ".lora_A." in name and weight.shape == (parent.r, mine.shape[1]):
                    mine[: parent.r] = weight
                elif ".lora_B." in name and weight.shape == (mine.shape[0], parent.r):
                    mine[:, : parent.r] = weight.float() * (parent_scale / self.scale)
                elif ".lora_" not in name and weight.shape == mine.shape:
                    mine.copy_(weight)
                else:
                    raise TrainerError("ADAPTER_MISMATCH", f"the layers of {directory.name} do not fit this base model")

    def save(self, directory: Path) -> None:
        """Writes adapter_model.safetensors and adapter_config.json, the same bytes for the same adapter."""
        tensors = {name: value.detach().float().cpu().contiguous() for name, value in sorted(self.parameters.items())}
        save_file(tensors, directory / WEIGHTS_FILE, metadata={"format": "pt"})
        self.config.save_pretrained(str(directory))
        # PEFT writes the targets in the order of a set, which changes from process to process.
        path = directory / CONFIG_FILE
        config = json.loads(path.read_text(encoding="utf-8"))
        config["target_modules"] = sorted(config["target_modules"])
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def _take(self, bare: dict[str, nn.Module], name: str, layer: Any) -> None:
        parent, _, child = name.rpartition(".")
        self._sites.append(_Site(bare[parent], child, bare[name], layer))
        for part, holder in (("lora_A", layer.lora_A), ("lora_B", layer.lora_B)):
            linear = holder[_ADAPTER]
            # Masters in float32: a step of AdamW is often below what bfloat16 can add.
            linear.weight = nn.Parameter(linear.weight.detach().float())
            self.parameters[f"{_PREFIX}{name}.{part}.weight"] = linear.weight
        layer.forward = types.MethodType(self._forward, layer)

    def _take_head(self, bare: dict[str, nn.Module], short: str) -> None:
        name = next((name for name in bare if f".{name}".endswith(f".{short}")), None)
        if name is None:
            raise TrainerError(
                "ADAPTER_MISMATCH", f"the base model has no module `{short}`, which the adapter replaces"
            )
        module = copy.deepcopy(bare[name]).float()
        self.head.append(module)
        for part, parameter in module.named_parameters():
            parameter.requires_grad_(True)
            self.parameters[f"{_PREFIX}{name}.{part}"] = parameter

    def _forward(self, layer: Any, x: torch.Tensor) -> torch.Tensor:
        base, scale = layer.base_layer, self.scale
        a, b = layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight
        if x.dtype != base.weight.dtype:
            return linear(base, x).add_(F.linear(F.linear(x, a), b), alpha=scale)
        kept, mask = x.detach(), None
        if self.dropout is not None:
            kept, mask = self.dropout(x)
            scale *= self.dropout.scale
        # torch leaves `apply` untyped.
        y: torch.Tensor = FusedLora.apply(x, base.weight, base.bias, a, b, scale, kept, mask)  # type: ignore[no-untyped-call]
        return y

    def _attach(self) -> None:
        for site in self._sites:
            setattr(site.parent, site.name, site.layer)
        if self.lower_half is not None:
            self.lower_half.put_in()

    def _detach(self) -> None:
        for site in self._sites:
            setattr(site.parent, site.name, site.base)
        if self.lower_half is not None:
            self.lower_half.take_out()


def new_config(
    lora: LoraConfig,
    targets: tuple[str, ...],
    identity: BaseIdentity,
    *,
    task_type: str | None = "CAUSAL_LM",
    modules_to_save: tuple[str, ...] = (),
    exclude_modules: str | None = None,
    layers: Sequence[int] | None = None,
) -> Any:
    """Makes PEFT's configuration for a new adapter.

    Args:
        lora: Rank, scale and dropout.
        targets: Names of the linear modules to adapt.
        identity: Of the base.
        task_type: PEFT's word for what the model does.
        modules_to_save: Names of the modules that the adapter replaces as a whole.
        exclude_modules: A pattern of modules that are no targets, whatever their name.
        layers: Indices of the layers to adapt; None: all.
    """
    return peft.LoraConfig(
        r=lora.rank,
        # vLLM and llama.cpp read it as a number of either kind; PEFT's own files hold an integer where it is one.
        lora_alpha=int(lora.alpha) if float(lora.alpha).is_integer() else lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(targets),
        bias="none",
        task_type=task_type,
        modules_to_save=list(modules_to_save) or None,
        exclude_modules=exclude_modules,
        layers_to_transform=list(layers) if layers is not None else None,
        base_model_name_or_path=identity.id,
        revision=identity.revision or None,
        inference_mode=False,
    )


def read_config(directory: Path) -> Any:
    """Reads adapter_config.json.

    Raises:
        TrainerError: ADAPTER_LOAD_FAILED, if it is missing, unreadable or of another kind than plain LoRA.
    """
    try:
        config = peft.LoraConfig.from_pretrained(str(directory))
    except Exception as error:
        raise TrainerError("ADAPTER_LOAD_FAILED", f"{directory.name}/{CONFIG_FILE} can't be read") from error
    if config.peft_type != peft.PeftType.LORA or config.use_dora or config.bias != "none":
        raise TrainerError("ADAPTER_LOAD_FAILED", f"{directory.name} is not a plain LoRA adapter")
    return config


def read_weights(directory: Path) -> dict[str, torch.Tensor]:
    """Reads adapter_model.safetensors.

    Raises:
        TrainerError: ADAPTER_LOAD_FAILED.
    """
    try:
        return load_file(directory / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise TrainerError("ADAPTER_LOAD_FAILED", f"{directory.name}/{WEIGHTS_FILE} can't be read") from error


def load_adapter(model: nn.Module, directory: Path) -> Adapter:
    """Builds a published adapter on a base, for scoring.

    Raises:
        TrainerError: ADAPTER_LOAD_FAILED, ADAPTER_MISMATCH, TARGET_MODULES_UNKNOWN.
    """
    adapter = Adapter(model, read_config(directory))
    adapter.load(directory)
    for parameter in adapter.parameters.values():
        parameter.requires_grad_(False)
    return adapter
