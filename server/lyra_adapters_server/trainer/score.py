"""Probabilities of rows under the base or an adapter, a micro-batch at a time."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError

from lyra_adapters_server.trainer.bases import Base, Bases
from lyra_adapters_server.trainer.data import Row, encode_pairs, encode_rows, make_batch, split_by_length
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.events import Scored, TrainerEvent
from lyra_adapters_server.trainer.heads import Head, probabilities
from lyra_adapters_server.trainer.lora import Adapter, load_adapter
from lyra_adapters_server.trainer.metrics import compute_metrics
from lyra_adapters_server.trainer.prompt import PromptEncoder
from lyra_adapters_server.trainer.spec import ClassifySpec, ScoreSpec
from lyra_adapters_server.types import LABELS, AdapterRef, Prompt

PROMPT_FILE = "prompt.json"

Probabilities = list[tuple[float, float, float]]


@dataclass(frozen=True)
class Subject:
    """What is scored: an adapter under its own prompt, or the bare base under the base's."""

    adapter: Adapter | None
    encoder: PromptEncoder
    head: Head

    def attached(self) -> AbstractContextManager[None]:
        """Puts the adapter, if there is one, into the model."""
        return self.adapter.attached() if self.adapter else nullcontext()


def score_token_budget(base: Base) -> int:
    """Padded tokens of a micro-batch without gradients. Short on CPU, where other requests wait for their turn."""
    return 2048 if base.device.type == "cpu" else 65536


def open_subject(base: Base, reference: AdapterRef) -> Subject:
    """Loads what a reference names.

    Raises:
        TrainerError: ADAPTER_LOAD_FAILED, ADAPTER_MISMATCH, PROMPT_INVALID, LABEL_NOT_ONE_TOKEN.
    """
    if not reference.directory:
        return Subject(None, base.encoder, base.head(base.encoder))
    directory = Path(reference.directory)
    encoder = base.encoder_for(read_prompt(directory))
    return Subject(load_adapter(base.model, directory), encoder, base.head(encoder))


def read_prompt(directory: Path) -> Prompt:
    """Reads the prompt that an adapter was trained with.

    Raises:
        TrainerError: ADAPTER_LOAD_FAILED.
    """
    try:
        content = json.loads((directory / PROMPT_FILE).read_text(encoding="utf-8"))
        return Prompt.model_validate({key: content[key] for key in Prompt.model_fields})
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise TrainerError("ADAPTER_LOAD_FAILED", f"{directory.name}/{PROMPT_FILE} can't be read") from error


def write_prompt(directory: Path, encoder: PromptEncoder, max_length: int) -> None:
    """Writes prompt.json: the prompt, the label words' tokens and the length that premises were cut to."""
    content = {
        **encoder.prompt.model_dump(mode="json"),
        "label_token_ids": dict(zip(LABELS, encoder.label_token_ids, strict=True)),
        "max_length": max_length,
    }
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    (directory / PROMPT_FILE).write_text(text, encoding="utf-8")


def score_rows(base: Base, subject: Subject, rows: Sequence[Row]) -> Generator[None, None, Probabilities]:
    """Scores rows, yielding after each micro-batch.

    Returns:
        Probabilities (rows, 3), in the order of the rows.
    """
    result: Probabilities = [(0.0, 0.0, 0.0)] * len(rows)
    for indices in split_by_length([len(row.tokens) for row in rows], score_token_budget(base)):
        batch = make_batch([rows[index] for index in indices], base.padding, base.device)
        with subject.attached(), torch.inference_mode():
            found = probabilities(base.logits(batch, subject.head))
        for index, row in zip(indices, found, strict=True):
            result[index] = row
        yield
    return result


def score(spec: ScoreSpec, bases: Bases) -> Iterator[TrainerEvent | None]:
    """Scores an adapter, or the bare base, on samples. Yields None after each micro-batch, then the result.

    Raises:
        TrainerError: BASE_MODEL_UNKNOWN and what else loading a base or an adapter raises.
    """
    base = bases.get(spec.subject.base_alias)
    subject = open_subject(base, spec.subject)
    rows = encode_rows(spec.samples, subject.encoder, min(spec.max_length, base.card.max_length))
    found = yield from score_rows(base, subject, rows)
    metrics = compute_metrics(found, [row.label for row in rows]) if rows else None
    yield Scored(metrics=metrics, probabilities=found, truncated=[row.truncated for row in rows])


def classify(spec: ClassifySpec, bases: Bases) -> Iterator[TrainerEvent | None]:
    """As `score`, for pairs whose label is not known: no metrics."""
    base = bases.get(spec.subject.base_alias)
    subject = open_subject(base, spec.subject)
    rows = encode_pairs(spec.pairs, subject.encoder, min(spec.max_length, base.card.max_length))
    found = yield from score_rows(base, subject, rows)
    yield Scored(metrics=None, probabilities=found, truncated=[row.truncated for row in rows])
