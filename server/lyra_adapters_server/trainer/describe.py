"""A base model found and described without its weights in memory: files, identity, shapes, tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from lyra_adapters_server.trainer import attention
from lyra_adapters_server.trainer.data import TextEncoder
from lyra_adapters_server.trainer.demo import DEMO_SOURCE, demo_directory
from lyra_adapters_server.trainer.devices import choose_device, choose_dtype
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.families import FAMILIES, Family
from lyra_adapters_server.trainer.identity import weight_names, weights_digest
from lyra_adapters_server.trainer.labels import match_labels
from lyra_adapters_server.trainer.pair import PairEncoder
from lyra_adapters_server.trainer.prompt import DEFAULT_PROMPT, PromptEncoder
from lyra_adapters_server.trainer.quiet import quiet_transformers
from lyra_adapters_server.trainer.spec import BaseModelConfig, WorkerConfig
from lyra_adapters_server.types import LABELS, BaseCard, BaseIdentity, Label


@dataclass(frozen=True)
class Files:
    """Where a base model lies, and which weights these are."""

    directory: Path
    identity: BaseIdentity


@dataclass(frozen=True)
class Description:
    """All that can be known of a base model before its weights are read.

    Attributes:
        settings: Its transformers configuration, with three labels if it gets a new head.
        model_class: Transformers' class that loads it.
        encoder: Of the base's own prompt, or of its pairs.
    """

    card: BaseCard
    files: Files
    family: Family
    settings: Any
    model_class: Any
    tokenizer: Any
    encoder: TextEncoder
    device: torch.device
    dtype: torch.dtype

    @property
    def weight_bytes(self) -> int:
        """What the weights take in memory."""
        return self.card.parameters * self.dtype.itemsize

    @property
    def attention(self) -> str:
        """The attention to run it with."""
        return self.family.attention(self.device)


def find_files(source: str, cache_dir: Path) -> Files:
    """Finds a base model's files, fetching or converting them first where needed. May take minutes.

    Raises:
        TrainerError: BASE_MODEL_LOAD_FAILED.
    """
    directory, identity_id, revision = _locate(source, cache_dir)
    digest = weights_digest(directory, cache_dir)
    return Files(directory, BaseIdentity(id=identity_id, revision=revision, digest=digest))


def describe(config: BaseModelConfig, worker: WorkerConfig, files: Files) -> Description:
    """Describes a base model from its files. No code that comes with it is run.

    Raises:
        TrainerError: BASE_MODEL_LOAD_FAILED, BASE_MODEL_UNSUPPORTED, LABELS_UNKNOWN, LABEL_NOT_ONE_TOKEN,
            PROMPT_INVALID, DEVICE_UNAVAILABLE, DTYPE_UNKNOWN.
    """
    device = choose_device(worker.device)
    dtype = choose_dtype(worker.dtype, device)
    attention.register()
    with quiet_transformers():
        try:
            settings = transformers.AutoConfig.from_pretrained(files.directory, trust_remote_code=False)
            family = FAMILIES.get(settings.model_type)
            if family is None:
                raise TrainerError(
                    "BASE_MODEL_UNSUPPORTED",
                    f"`{config.source}` is of type `{settings.model_type}`; supported: {', '.join(sorted(FAMILIES))}",
                )
            tokenizer = transformers.AutoTokenizer.from_pretrained(files.directory, trust_remote_code=False)
            indices = _head_labels(config, settings, files, family) if family.is_encoder else {}
            model_class = transformers.AutoModelForCausalLM
            if family.is_encoder:
                model_class = transformers.AutoModelForSequenceClassification
                settings.num_labels = len(LABELS)
            # On this device tensors have shapes, but no values and no memory.
            with torch.device("meta"):
                model = model_class.from_config(settings, attn_implementation=family.attention(device))
        except TrainerError:
            raise
        except Exception as error:
            raise TrainerError("BASE_MODEL_LOAD_FAILED", f"`{config.source}` can't be loaded: {error}") from error
    encoder = _encoder(config, family, tokenizer, indices)
    card = BaseCard(
        alias=config.alias,
        identity=files.identity,
        architecture=type(model).__name__,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        max_length=_max_length(settings, family),
        linear_modules=_linear_modules(model, family),
        default_target_modules=family.targets,
        has_head=bool(indices) or not family.is_encoder,
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        **_reading(encoder),
    )
    return Description(card, files, family, settings, model_class, tokenizer, encoder, device, dtype)


def _encoder(
    config: BaseModelConfig, family: Family, tokenizer: Any, indices: dict[Label, int]
) -> PromptEncoder | PairEncoder:
    if not family.is_encoder:
        if config.labels is not None:
            raise TrainerError(
                "LABELS_UNKNOWN",
                f"[labels.{config.alias}] is for encoders; a causal model has [prompts.{config.alias}]",
            )
        return PromptEncoder(config.prompt or DEFAULT_PROMPT, tokenizer)
    if config.prompt is not None:
        raise TrainerError(
            "PROMPT_INVALID", f"[prompts.{config.alias}] is for causal models; an encoder reads pairs as they are"
        )
    # A new head has the labels in our order.
    return PairEncoder(tokenizer, indices or {label: index for index, label in enumerate(LABELS)})


def _reading(encoder: PromptEncoder | PairEncoder) -> dict[str, Any]:
    # The card's fields that differ between the kinds.
    if isinstance(encoder, PromptEncoder):
        label_token_ids = dict(zip(LABELS, encoder.label_token_ids, strict=True))
        return {"prompt": encoder.prompt, "label_token_ids": label_token_ids}
    return {"label_indices": dict(zip(LABELS, encoder.label_indices, strict=True))}


def _head_labels(config: BaseModelConfig, settings: Any, files: Files, family: Family) -> dict[Label, int]:
    # Empty: the base has no NLI head.
    names: list[str] = []
    if any(name.startswith(f"{family.head[-1]}.") for name in weight_names(files.directory)):
        names = [str(settings.id2label[index]) for index in range(settings.num_labels)]
    return match_labels(names, config.labels, config.alias) or {}


def _max_length(settings: Any, family: Family) -> int:
    length = int(settings.max_position_embeddings)
    return length - settings.pad_token_id - 1 if family.padding_shifts_positions else length


def _linear_modules(model: nn.Module, family: Family) -> dict[str, tuple[int, int]]:
    # Transformers' models have it, torch's modules don't.
    output = model.get_output_embeddings()  # type: ignore[operator]
    found: dict[str, tuple[int, int]] = {}
    for name, module in model.named_modules():
        if name.startswith(tuple(f"{part}." for part in family.head)) or name in family.head:
            continue
        if isinstance(module, nn.Linear) and module is not output:
            short, shape = name.rpartition(".")[2], (module.out_features, module.in_features)
            # The smallest bounds the rank that fits everywhere.
            found[short] = min(found.get(short, shape), shape, key=min)
    return found


def _locate(source: str, cache_dir: Path) -> tuple[Path, str, str]:
    # The directory, the id that adapters name as their base, and the revision.
    if source == DEMO_SOURCE:
        directory = demo_directory(cache_dir)
        # What the hub has under the demo model's own id are other weights than these, which were quantised.
        return directory, str(directory), ""
    local = Path(source).expanduser()
    if local.is_dir():
        return local, str(local.resolve()), ""
    if source.startswith(("/", ".", "~")):
        raise TrainerError("BASE_MODEL_LOAD_FAILED", f"there is no directory `{source}`")
    import huggingface_hub

    patterns = ["model*.safetensors", "*.json", "tokenizer*", "*.jinja", "merges.txt", "vocab.txt", "*.model"]
    try:
        snapshot = Path(huggingface_hub.snapshot_download(source, allow_patterns=patterns))
    except Exception as error:
        raise TrainerError(
            "BASE_MODEL_LOAD_FAILED", f"`{source}` can't be fetched from the model hub: {error}"
        ) from error
    return snapshot, source, snapshot.name
