"""One base model in memory: what training and scoring ask of it, for causal models and for encoders."""

from __future__ import annotations

import copy
import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from lyra_adapters_server.trainer import attention
from lyra_adapters_server.trainer.data import Batch, TextEncoder
from lyra_adapters_server.trainer.describe import Description
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.gated import speed_up_mlps
from lyra_adapters_server.trainer.gelu import speed_up_gelu
from lyra_adapters_server.trainer.heads import AnswerTokenHead, ClassifierHead, Head
from lyra_adapters_server.trainer.known_scores import KnownScores
from lyra_adapters_server.trainer.lora import Adapter, new_config
from lyra_adapters_server.trainer.lower_half import LowerHalf, first_adapted, layers_of
from lyra_adapters_server.trainer.norms import speed_up_norms
from lyra_adapters_server.trainer.packing import lay_out, run_packed, skip_what_nobody_reads
from lyra_adapters_server.trainer.pair import PairEncoder
from lyra_adapters_server.trainer.precision import Precision, take_float32
from lyra_adapters_server.trainer.prompt import PromptEncoder
from lyra_adapters_server.trainer.quiet import quiet_transformers
from lyra_adapters_server.trainer.residual import widen_residual
from lyra_adapters_server.trainer.rotary import speed_up_rotary
from lyra_adapters_server.types import LABELS, PAIR, BaseCard, Label, LoraConfig, Prompt


class Base(ABC):
    """A base model in memory, bare and frozen.

    Attributes:
        card: Its description for the server.
        model: The whole model, in evaluation mode.
        encoder: Of the base's own prompt, or of its pairs.
        known_scores: What it, and adapters on it, have said of the gate's rows.
    """

    def __init__(self, description: Description, model: nn.Module) -> None:
        """Takes the model over."""
        self.card: BaseCard = description.card
        self.model = model
        self.device = description.device
        self.dtype = description.dtype
        self.tokenizer = description.tokenizer
        self.known_scores = KnownScores()

    encoder: Any
    # Whether heads read each row's last token, or its first.
    _reads_last: bool

    @property
    def padding(self) -> int:
        """A token to pad with."""
        return int(self.tokenizer.pad_token_id or 0)

    @abstractmethod
    def encoder_for(self, content: Mapping[str, Any]) -> TextEncoder:
        """Gives the encoder that a prompt.json tells of, such as an older adapter's own.

        Raises:
            TrainerError: PROMPT_INVALID, LABEL_NOT_ONE_TOKEN.
            ValueError, KeyError, TypeError: If the content is not such a file's.
        """

    @abstractmethod
    def head(self, encoder: Any, adapter: Adapter | None = None) -> Head:
        """Makes the head that reads the answer: the base's own, or the one that an adapter brings along.

        Raises:
            TrainerError: BASE_HAS_NO_HEAD, if neither has one.
        """

    @abstractmethod
    def new_adapter(self, lora: LoraConfig, targets: tuple[str, ...], seed: int) -> Adapter:
        """Makes an adapter that changes nothing yet, with its random values drawn from a seed."""

    @abstractmethod
    def logits(self, batch: Batch, head: Head) -> torch.Tensor:
        """Runs the model and the head. Returns float32 logits (rows, 3)."""

    def lower_states(self, adapter: Adapter, batch: Batch, head: Head) -> list[torch.Tensor]:
        """What the layers below an adapter of the upper half give of rows: (positions, width) of each, on the CPU."""
        assert adapter.lower_half is not None

        def run() -> None:
            with adapter.attached():
                self.logits(batch, head)

        found = adapter.lower_half.compute(run)
        lengths = batch.lengths.tolist()
        if self.packs:
            packing = lay_out(batch, last=self._reads_last)
            shared, ends = found[0, : packing.shared], packing.ends.tolist()
            own = [found[0, end - length + packing.shared : end] for end, length in zip(ends, lengths, strict=True)]
            rows = [torch.cat([shared, one]) for one in own]
        else:
            rows = [found[index, :length] for index, length in enumerate(lengths)]
        return [row.to("cpu", self.dtype, copy=True) for row in rows]

    def keep_lower_states(self, adapter: Adapter, batch: Batch, states: Sequence[torch.Tensor]) -> None:
        """Lets the layers below an adapter of the upper half give these, in the layout that the batch is run in."""
        assert adapter.lower_half is not None
        if self.packs:
            packing = lay_out(batch, last=self._reads_last)
            own = [row[packing.shared :] for row in states]
            found = packing.fill(torch.cat([states[0][: packing.shared], *own]))[None]
        else:
            found = nn.utils.rnn.pad_sequence(list(states), batch_first=True)
        # Where the base's norms are ours, what flows between its layers is float32.
        adapter.lower_half.kept = found.to(self.device, adapter.lower_half.dtype)

    def _layers(self, lora: LoraConfig) -> range | None:
        count = len(layers_of(self.model))
        return range(first_adapted(count), count) if lora.upper_half else None

    def _lower_half(self, lora: LoraConfig) -> LowerHalf | None:
        # A model of one layer has nothing below it.
        return self._half if lora.upper_half and first_adapted(len(layers_of(self.model))) else None

    @functools.cached_property
    def _half(self) -> LowerHalf:
        # One for all adapters: what it learns of the layers in the first run of a job, later runs use.
        return LowerHalf(self.model)

    def exact(self) -> AbstractContextManager[None]:
        """Computes in float32, as far as the family allows, whatever the precision of the weights; see precision.py."""
        return nullcontext()

    @property
    def packs(self) -> bool:
        """Whether rows are computed end to end, without padding, which only our own attention can."""
        settings: Any = self.model.config
        return bool(settings._attn_implementation == attention.NAME)

    def linear_names(self) -> tuple[str, ...]:
        """Names of the linear modules that can be adapted, without layer prefixes, sorted."""
        return tuple(sorted(self.card.linear_modules))


class CausalBase(Base):
    """A causal model, which answers a prompt with one of three words."""

    _reads_last = True

    def __init__(self, description: Description, model: nn.Module) -> None:
        """Takes the model over."""
        super().__init__(description, model)
        self._precision = Precision(description.dtype)
        body: Any = model.base_model
        speed_up_mlps(model)
        if speed_up_norms(model, self._precision):
            widen_residual(model, self._precision)
            take_float32(body)
        speed_up_rotary(model)
        last = body.layers[-1].mlp
        skip_what_nobody_reads(last, "forward", [last], last=True)
        # A description's encoder is of its family.
        self.encoder: PromptEncoder = description.encoder  # type: ignore[assignment]

    def encoder_for(self, content: Mapping[str, Any]) -> PromptEncoder:
        """See Base."""
        prompt = Prompt.model_validate({key: content[key] for key in Prompt.model_fields})
        return self.encoder if prompt == self.encoder.prompt else PromptEncoder(prompt, self.tokenizer)

    def head(self, encoder: PromptEncoder, adapter: Adapter | None = None) -> Head:
        """See Base; adapters of causal models bring none."""
        del adapter
        # Transformers' models have it, torch's modules don't.
        rows = self.model.get_output_embeddings().weight[list(encoder.label_token_ids)]  # type: ignore[operator]
        return AnswerTokenHead(rows, getattr(self.model.config, "final_logit_softcapping", None))

    def new_adapter(self, lora: LoraConfig, targets: tuple[str, ...], seed: int) -> Adapter:
        """See Base."""
        adapter = Adapter(self.model, new_config(lora, targets, self.card.identity, layers=self._layers(lora)))
        adapter.initialise(seed)
        adapter.lower_half = self._lower_half(lora)
        return adapter

    def logits(self, batch: Batch, head: Head) -> torch.Tensor:
        """See Base."""
        decoder: Any = self.model.base_model
        if self.packs:
            return head(run_packed(decoder, batch, last=self._reads_last), torch.ones_like(batch.lengths))
        hidden = decoder(input_ids=batch.tokens, use_cache=False).last_hidden_state
        return head(hidden, batch.lengths)

    def exact(self) -> AbstractContextManager[None]:
        """See Base."""
        return self._precision.exact()


class EncoderBase(Base):
    """An encoder, which reads both texts at once; its classification head is its own or each adapter's."""

    _reads_last = False

    def __init__(self, description: Description, model: nn.Module, new: frozenset[str]) -> None:
        """Takes the model over.

        Args:
            description: Of the model.
            model: With a head of three outputs.
            new: Names of the parameters that no file holds.
        """
        super().__init__(description, model)
        # As above.
        self.encoder: PairEncoder = description.encoder  # type: ignore[assignment]
        if not description.family.own_attention:
            body: Any = model.base_model
            layer = body.encoder.layer[-1]
            skip_what_nobody_reads(layer, "feed_forward_chunk", [layer.intermediate, layer.output], last=False)
        self._head_names = description.family.head
        self._first_position = self.padding + 1 if description.family.padding_shifts_positions else 0
        self._new = new
        # In float32, as the logits of a causal model are. Copies, since some models run their pooler themselves.
        self._head = [copy.deepcopy(model.get_submodule(name)).float() for name in self._head_names]
        speed_up_gelu(model)

    def encoder_for(self, content: Mapping[str, Any]) -> PairEncoder:
        """See Base."""
        if content["kind"] != PAIR:
            raise ValueError("not of an encoder")
        indices = {Label(label): int(index) for label, index in content["label_indices"].items()}
        if sorted(indices.values()) != list(range(len(LABELS))):
            raise ValueError("not three outputs")
        return PairEncoder(self.tokenizer, indices)

    def head(self, encoder: PairEncoder, adapter: Adapter | None = None) -> Head:
        """See Base."""
        if adapter is not None and adapter.head:
            return ClassifierHead(adapter.head, encoder.label_indices)
        if not self.card.has_head:
            raise TrainerError(
                "BASE_HAS_NO_HEAD", f"{self.card.alias} has no NLI head, so without an adapter it can't judge"
            )
        return ClassifierHead(self._head, encoder.label_indices)

    def new_adapter(self, lora: LoraConfig, targets: tuple[str, ...], seed: int) -> Adapter:
        """See Base. The head of a base that has one stays as it is."""
        names = tuple(name.rpartition(".")[2] for name in self._head_names)
        config = new_config(
            lora,
            targets,
            self.card.identity,
            # Under SEQ_CLS, PEFT demands that the file brings a head.
            task_type=None if self.card.has_head else "SEQ_CLS",
            modules_to_save=() if self.card.has_head else names,
            # A target's name, such as `dense`, may occur in the head too.
            exclude_modules=rf"(.*\.)?({'|'.join(names)})(\..*)?",
            layers=self._layers(lora),
        )
        adapter = Adapter(self.model, config)
        adapter.initialise(seed, self._new)
        adapter.lower_half = self._lower_half(lora)
        return adapter

    def logits(self, batch: Batch, head: Head) -> torch.Tensor:
        """See Base."""
        body: Any = self.model.base_model
        if self.packs:
            hidden = run_packed(body, batch, last=self._reads_last, first_position=self._first_position)
            return head(hidden, torch.ones_like(batch.lengths))
        types = {} if batch.types is None else {"token_type_ids": batch.types}
        hidden = body(input_ids=batch.tokens, attention_mask=batch.mask, **types).last_hidden_state
        return head(hidden, batch.lengths)


def load_base(description: Description) -> Base:
    """Reads a base model's weights. Only safetensors are read, and no code that comes with a model is run.

    Raises:
        TrainerError: BASE_MODEL_LOAD_FAILED.
    """
    family, name = description.family, description.card.alias
    options: dict[str, Any] = {}
    if family.is_encoder:
        # A head for something else has other shapes, and is drawn anew.
        options = {"config": description.settings, "ignore_mismatched_sizes": not description.card.has_head}
    with quiet_transformers():
        try:
            model, report = description.model_class.from_pretrained(
                description.files.directory,
                dtype=description.dtype,
                attn_implementation=description.attention,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                **options,
            )
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise TrainerError("BASE_MODEL_LOAD_FAILED", f"`{name}` can't be loaded: {error}") from error
    model.requires_grad_(False)
    model.eval().to(description.device)
    if not family.is_encoder:
        return CausalBase(description, model)
    new = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    allowed = () if description.card.has_head else tuple(f"{part}." for part in family.head)
    lacking = sorted(key for key in new if not key.startswith(allowed))
    if lacking:
        raise TrainerError(
            "BASE_MODEL_LOAD_FAILED", f"the files of `{name}` lack {len(lacking)} weights: {lacking[0]}, …"
        )
    return EncoderBase(description, model, frozenset(new))
