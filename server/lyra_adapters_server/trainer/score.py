"""Probabilities of rows under the base or an adapter, a micro-batch at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from lyra_adapters_server.trainer.base import Base
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.calibration import at_temperature
from lyra_adapters_server.trainer.data import Row, TextEncoder, encode_pairs, encode_rows, make_batch, split_by_length
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.events import Scored, TrainerEvent
from lyra_adapters_server.trainer.exhaustion import TokenBudget, is_exhaustion, let_frames_go
from lyra_adapters_server.trainer.heads import Head, probabilities
from lyra_adapters_server.trainer.known_scores import Probabilities, key_of
from lyra_adapters_server.trainer.lora import Adapter, load_adapter
from lyra_adapters_server.trainer.memory import give_back
from lyra_adapters_server.trainer.metrics import compute_metrics
from lyra_adapters_server.trainer.spec import ClassifySpec, ScoreSpec, TrainSpec, class_prior
from lyra_adapters_server.types import LABELS, AdapterRef, Metrics

PROMPT_FILE = "prompt.json"

# Somebody waits for Classify, so some pairs are answered in one turn; many take turns with a training.
_TOKENS_A_QUESTION = 4096


@dataclass(frozen=True)
class Subject:
    """What is scored: an adapter under its own prompt, or the bare base under the base's."""

    adapter: Adapter | None
    encoder: TextEncoder
    head: Head
    # What its logits are divided by.
    temperature: float = 1.0

    def attached(self) -> AbstractContextManager[None]:
        """Puts the adapter, if there is one, into the model."""
        return self.adapter.attached() if self.adapter else nullcontext()


def score_token_budget(base: Base) -> int:
    """Padded tokens of a micro-batch without gradients. Short on CPU, where other requests wait for their turn."""
    return 1024 if base.device.type == "cpu" else 65536


def open_subject(base: Base, reference: AdapterRef) -> Subject:
    """Loads what a reference names.

    Raises:
        TrainerError: ADAPTER_LOAD_FAILED, ADAPTER_MISMATCH, PROMPT_INVALID, LABEL_NOT_ONE_TOKEN, BASE_HAS_NO_HEAD.
    """
    if not reference.directory:
        return Subject(None, base.encoder, base.head(base.encoder))
    directory = Path(reference.directory)
    encoder = read_prompt(directory, base)
    adapter = load_adapter(base.model, directory)
    return Subject(adapter, encoder, base.head(encoder, adapter), read_temperature(directory))


def read_prompt(directory: Path, base: Base) -> TextEncoder:
    """Reads how an adapter was trained to read pairs.

    Raises:
        TrainerError: ADAPTER_LOAD_FAILED, PROMPT_INVALID, LABEL_NOT_ONE_TOKEN.
    """
    try:
        return base.encoder_for(json.loads((directory / PROMPT_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainerError("ADAPTER_LOAD_FAILED", f"{directory.name}/{PROMPT_FILE} can't be read") from error


def read_temperature(directory: Path) -> float:
    """Reads what an adapter's logits are divided by; 1.0 for one that was trained before there was such a number.

    Raises:
        TrainerError: ADAPTER_LOAD_FAILED.
    """
    try:
        found = float(json.loads((directory / PROMPT_FILE).read_text(encoding="utf-8")).get("temperature", 1.0))
    except (OSError, ValueError, TypeError) as error:
        raise TrainerError("ADAPTER_LOAD_FAILED", f"{directory.name}/{PROMPT_FILE} can't be read") from error
    if not 0.0 < found < math.inf:
        raise TrainerError("ADAPTER_LOAD_FAILED", f"{directory.name}/{PROMPT_FILE} has no usable temperature")
    return found


def write_prompt(directory: Path, encoder: TextEncoder, max_length: int, temperature: float = 1.0) -> None:
    """Writes prompt.json: how pairs become tokens, where labels are read, how long premises are, the temperature."""
    content = {**encoder.describe(), "max_length": max_length, "temperature": temperature}
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    (directory / PROMPT_FILE).write_text(text, encoding="utf-8")


def score_rows(
    base: Base,
    subject: Subject,
    rows: Sequence[Row],
    budget: TokenBudget | None = None,
    batches_a_turn: int = 1,
    exact: bool = False,
) -> Generator[None, None, Probabilities]:
    """Scores rows, yielding after each micro-batch, or after as many as asked.

    Args:
        base: The base model.
        subject: What is scored.
        rows: As the subject's encoder gives them.
        budget: Of the micro-batches; becomes smaller if memory runs out. None: the device's usual one.
        batches_a_turn: After how many of them it yields.
        exact: Compute as in float32; see Base.exact.

    Returns:
        Probabilities (rows, 3), in the order of the rows.

    Raises:
        TrainerError: OUT_OF_MEMORY, if memory does not suffice for a single row.
    """
    budget = budget or TokenBudget(score_token_budget(base))
    lengths = [len(row.tokens) for row in rows]
    result: Probabilities = [(0.0, 0.0, 0.0)] * len(rows)
    waiting = split_by_length(lengths, budget.tokens)
    number = 0
    while waiting:
        indices = waiting[0]
        found = _score_batch(base, subject, [rows[index] for index in indices], exact)
        if found is None:
            give_back(base.device)
            budget.halve(len(indices), max(lengths[index] for index in indices))
            left = [index for batch in waiting for index in batch]
            split = split_by_length([lengths[index] for index in left], budget.tokens)
            waiting = [[left[position] for position in batch] for batch in split]
        else:
            for index, row in zip(waiting.pop(0), found, strict=True):
                result[index] = row
        number += 1
        if number % batches_a_turn == 0:
            yield
    return at_temperature(result, subject.temperature)


def score_set(
    base: Base, subject: Subject, rows: Sequence[Row], budget: TokenBudget | None = None
) -> Generator[None, None, Probabilities]:
    """As `score_rows`, for sets that are asked about again, as the gate's are: what is known is not computed again."""
    key = key_of(subject.adapter, subject.encoder, rows)
    found = base.known_scores.find(key)
    if found is None:
        found = yield from score_rows(base, replace(subject, temperature=1.0), rows, budget)
        base.known_scores.keep(key, found)
    return at_temperature(found, subject.temperature)


def _score_batch(base: Base, subject: Subject, rows: Sequence[Row], exact: bool) -> Probabilities | None:
    """Probabilities of a micro-batch; None if memory ran out."""
    try:
        batch = make_batch(rows, base.padding, base.device)
        with subject.attached(), torch.inference_mode(), base.exact() if exact else nullcontext():
            return probabilities(base.logits(batch, subject.head))
    except Exception as error:
        if not is_exhaustion(error):
            raise
        let_frames_go(error)
        return None


def score(spec: ScoreSpec, bases: Bases) -> Iterator[TrainerEvent | None]:
    """Scores an adapter, or the bare base, on samples. Yields None after each micro-batch, then the result.

    Raises:
        TrainerError: BASE_MODEL_UNKNOWN and what else loading a base or an adapter raises.
    """
    yield from bases.prepare(spec.subject.base_alias)
    temperature = 1.0
    with bases.use(spec.subject.base_alias) as base:
        if spec.prior is not None and is_headless(base, spec.subject):
            found, cut = [spec.prior] * len(spec.samples), [False] * len(spec.samples)
        else:
            subject = open_subject(base, spec.subject)
            temperature = subject.temperature
            rows = encode_rows(spec.samples, subject.encoder, min(spec.max_length, base.card.max_length))
            found, cut = (yield from score_set(base, subject, rows)), [row.truncated for row in rows]
    labels = [LABELS.index(sample.correct_label) for sample in spec.samples]
    yield Scored(
        metrics=compute_metrics(found, labels, temperature) if labels else None, probabilities=found, truncated=cut
    )


def score_champion(
    spec: TrainSpec, base: Base, encoded: Sequence[Row] | None = None, budget: TokenBudget | None = None
) -> Generator[TrainerEvent | None, None, Metrics]:
    """Scores what is in force on the held-out rows.

    Args:
        spec: Of the training.
        base: The champion's.
        encoded: The rows under the base's own prompt, if they are at hand.
        budget: Of the micro-batches.
    """
    samples = spec.validation_samples
    if is_headless(base, spec.champion):
        labels = [LABELS.index(sample.correct_label) for sample in samples]
        return compute_metrics([class_prior(spec.training_samples)] * len(labels), labels)
    subject = open_subject(base, spec.champion)
    if encoded is None or subject.encoder is not base.encoder:
        encoded = encode_rows(samples, subject.encoder, min(spec.training.max_length, base.card.max_length))
    found = yield from score_set(base, subject, encoded, budget)
    return compute_metrics(found, [row.label for row in encoded], subject.temperature)


def is_headless(base: Base, reference: AdapterRef) -> bool:
    """Whether a reference names a bare base without an NLI head: it knows no more than how often each label occurs."""
    return not reference.directory and not base.card.has_head


def classify(spec: ClassifySpec, bases: Bases, exact: bool = False) -> Iterator[TrainerEvent | None]:
    """As `score`, for pairs whose label is not known: no metrics.

    Args:
        spec: What to classify, with what.
        bases: The base models.
        exact: Say what anybody else computes from the same files in float32, and not what bfloat16 makes of it.
    """
    yield from bases.prepare(spec.subject.base_alias)
    with bases.use(spec.subject.base_alias) as base:
        subject = open_subject(base, spec.subject)
        rows = encode_pairs(spec.pairs, subject.encoder, min(spec.max_length, base.card.max_length))
        batches_a_turn = max(1, _TOKENS_A_QUESTION // score_token_budget(base))
        found = yield from score_rows(base, subject, rows, batches_a_turn=batches_a_turn, exact=exact)
    yield Scored(metrics=None, probabilities=found, truncated=[row.truncated for row in rows])
