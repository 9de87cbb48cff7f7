"""Training: a spec in, events out, one micro-batch at a time."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import peft
import torch
import transformers

from lyra_adapters_server import failpoints
from lyra_adapters_server.trainer.base import Base
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.data import Batch, Row, encode_rows, make_batch, split_by_length, training_order
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.events import (
    Evaluated,
    Trained,
    TrainerEvent,
    TrainerWarning,
    TrainingProgress,
    TrainingStarted,
)
from lyra_adapters_server.trainer.fused import Dropout
from lyra_adapters_server.trainer.heads import summed_loss
from lyra_adapters_server.trainer.metrics import compute_metrics
from lyra_adapters_server.trainer.score import Subject, is_headless, open_subject, score_rows, write_prompt
from lyra_adapters_server.trainer.spec import TrainSpec, class_prior
from lyra_adapters_server.trainer.state import TrainState, learning_rate_at
from lyra_adapters_server.types import LABELS, LoraConfig, Metrics

Events = Generator[TrainerEvent | None, None, None]

ALL_LINEAR = "all-linear"


def train_token_budget(base: Base) -> int:
    """Padded tokens of a micro-batch with gradients: what bounds the memory, and on CPU what the caches hold."""
    return 1536 if base.device.type == "cpu" else 16384


def target_modules(base: Base, lora: LoraConfig) -> tuple[str, ...]:
    """Resolves the targets asked for: none means the family's, `all-linear` every linear module.

    Raises:
        TrainerError: TARGET_MODULES_UNKNOWN.
    """
    if not lora.target_modules:
        return base.card.default_target_modules
    if lora.target_modules == (ALL_LINEAR,):
        return base.linear_names()
    unknown = sorted(set(lora.target_modules) - set(base.linear_names()))
    if unknown:
        raise TrainerError(
            "TARGET_MODULES_UNKNOWN",
            f"no linear module is called {', '.join(unknown)}; there are {', '.join(base.linear_names())}",
        )
    return tuple(sorted(set(lora.target_modules)))


def train(spec: TrainSpec, bases: Bases) -> Iterator[TrainerEvent | None]:
    """Trains an adapter and writes its files. Yields events, and None after each micro-batch.

    Everything random follows from the spec's seed: the same spec under the same plan gives the same bytes on CPU.

    Raises:
        TrainerError: NO_TRAINING_SAMPLES; LOSS_NOT_FINITE; TARGET_MODULES_UNKNOWN; CONTINUE_FROM_SHRINKS; and what
            loading a base or an adapter raises.
    """
    if not spec.training_samples:
        raise TrainerError("NO_TRAINING_SAMPLES", "there is nothing to train on")
    before = None
    if spec.validation_samples and spec.champion.base_alias != spec.base_alias:
        # What is in force stands on another base. First, so that never two bases are needed at a time.
        yield from bases.prepare(spec.champion.base_alias)
        with bases.use(spec.champion.base_alias) as base:
            before = yield from _score_champion(spec, base)
    yield from bases.prepare(spec.base_alias)
    with bases.use(spec.base_alias) as base:
        yield from _Run(spec, base, before).events()


def _score_champion(
    spec: TrainSpec, base: Base, encoded: Sequence[Row] | None = None
) -> Generator[TrainerEvent | None, None, Metrics]:
    """Scores what is in force on the held-out rows.

    Args:
        spec: Of the training.
        base: The champion's.
        encoded: The rows under the base's own prompt, if they are at hand.
    """
    samples = spec.validation_samples
    if is_headless(base, spec.champion):
        labels = [LABELS.index(sample.correct_label) for sample in samples]
        return compute_metrics([class_prior(spec.training_samples)] * len(labels), labels)
    subject = open_subject(base, spec.champion)
    if encoded is None or subject.encoder is not base.encoder:
        encoded = encode_rows(samples, subject.encoder, min(spec.training.max_length, base.card.max_length))
    found = yield from score_rows(base, subject, encoded)
    return compute_metrics(found, [row.label for row in encoded])


class _Run:
    def __init__(self, spec: TrainSpec, base: Base, before: Metrics | None) -> None:
        self._spec, self._base, self._training, self._before = spec, base, spec.training, before
        self._max_length = min(spec.training.max_length, base.card.max_length)
        self._rows = encode_rows(spec.training_samples, base.encoder, self._max_length)
        self._held_out = encode_rows(spec.validation_samples, base.encoder, self._max_length)
        self._adapter = base.new_adapter(spec.lora, target_modules(base, spec.lora), self._training.seed)
        if spec.continue_from is not None and spec.continue_from.directory:
            self._adapter.continue_from(Path(spec.continue_from.directory))
        self._subject = Subject(self._adapter, base.encoder, base.head(base.encoder, self._adapter))
        self._dropout = Dropout(spec.lora.dropout, self._training.seed)
        self._state = TrainState(self._adapter, self._training)
        self._order = training_order(
            [len(row.tokens) for row in self._rows],
            self._training.epochs,
            self._training.batch_size,
            self._training.seed,
        )
        self._progress = _ProgressMeter(spec, len(self._rows), len(self._order))

    def events(self) -> Events:
        spec, state = self._spec, self._state
        began = time.monotonic()
        yield self._started()
        truncated = sum(row.truncated for row in (*self._rows, *self._held_out))
        if truncated:
            yield TrainerWarning(
                reason="SAMPLES_TRUNCATED",
                message=f"{truncated} samples are longer than {self._max_length} tokens; their premises were cut",
            )
        before = self._before
        if self._held_out:
            if before is None:
                before = yield from _score_champion(spec, self._base, self._held_out)
            yield Evaluated(stage="BEFORE", subject=spec.champion.name, metrics=before, step=0)
        stopped_early = False
        evaluate_at = self._evaluation_steps() if self._held_out else set()
        while state.step < len(self._order) and not stopped_early:
            yield from self._step()
            if state.step in evaluate_at:
                yield from self._validate()
                patience = self._training.patience
                stopped_early = 0 < patience <= state.evaluations_without_gain and state.step < len(self._order)
        state.restore_best()
        state.seconds += time.monotonic() - began
        after = state.best_metrics
        if after is not None:
            # The weights are those of that evaluation, and the rows the same: a second pass would say the same.
            yield Evaluated(stage="AFTER", subject="", metrics=after, step=state.best_step, best=True)
        output = Path(spec.output_dir)
        with failpoints.step("adapter.write"):
            output.mkdir(parents=True, exist_ok=True)
            self._adapter.save(output)
            write_prompt(output, self._base.encoder, self._max_length)
        yield Trained(
            metrics_before=before,
            metrics_after=after,
            best_step=state.best_step or state.step,
            steps=state.step,
            stopped_early=stopped_early,
            truncated_samples=truncated,
            training_seconds=state.seconds,
            plan=self._plan(),
        )

    def _started(self) -> TrainingStarted:
        return TrainingStarted(
            training_samples=len(self._rows),
            validation_samples=len(self._held_out),
            total_steps=len(self._order),
            device=self._base.card.device,
            dtype=self._base.card.dtype,
            trainable_parameters=sum(parameter.numel() for parameter in self._adapter.parameters.values()),
        )

    def _step(self) -> Events:
        indices = self._order[self._state.step]
        rows = [self._rows[index] for index in indices]
        loss = 0.0
        tokens = 0
        micro_batches = split_by_length([len(row.tokens) for row in rows], train_token_budget(self._base))
        for number, positions in enumerate(micro_batches):
            batch = make_batch([rows[position] for position in positions], self._base.padding, self._base.device)
            start = time.monotonic()
            part = self._forward(batch, len(rows), number)
            self._progress.worked(0, time.monotonic() - start)
            # Two turns, since each takes about as long: the graph stands while others use the base.
            yield None
            start = time.monotonic()
            part.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            loss += float(part.detach())
            del part
            tokens += batch.token_count
            self._progress.worked(batch.token_count, time.monotonic() - start)
            yield None
        if not math.isfinite(loss):
            raise TrainerError("LOSS_NOT_FINITE", f"the loss is {loss} at step {self._state.step + 1}")
        rate = learning_rate_at(
            self._state.step + 1, len(self._order), self._training.learning_rate, self._training.warmup_ratio
        )
        self._state.update(rate, self._training.max_grad_norm)
        event = self._progress.stepped(self._state.step, loss, rate)
        if event is not None:
            yield event

    def _forward(self, batch: Batch, step_rows: int, number: int) -> torch.Tensor:
        """Runs the model on a micro-batch; returns its share of the step's loss, with the graph behind it."""
        self._dropout.start(self._state.step, number)
        self._adapter.dropout = self._dropout
        try:
            with self._adapter.attached(), torch.enable_grad():
                logits = self._base.logits(batch, self._subject.head)
                return summed_loss(logits, batch.labels, self._training.label_smoothing) / step_rows
        finally:
            self._adapter.dropout = None

    def _evaluation_steps(self) -> set[int]:
        count = self._training.epochs * self._training.evaluations_per_epoch
        return {max(1, round(len(self._order) * number / count)) for number in range(1, count + 1)}

    def _validate(self) -> Events:
        found = yield from score_rows(self._base, self._subject, self._held_out)
        metrics = compute_metrics(found, [row.label for row in self._held_out])
        best = self._state.note(metrics)
        yield Evaluated(stage="VALIDATION", subject="", metrics=metrics, step=self._state.step, best=best)

    def _plan(self) -> dict[str, object]:
        return {
            "device": self._base.card.device,
            "dtype": self._base.card.dtype,
            "threads": torch.get_num_threads(),
            "kernels": "fused_lora",
            "attention": str(getattr(self._base.model.config, "_attn_implementation", "")),
            "token_budget": train_token_budget(self._base),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        }


class _ProgressMeter:
    """Turns steps into events, not more often than asked."""

    def __init__(self, spec: TrainSpec, rows: int, total_steps: int) -> None:
        self._interval, self._rows, self._total = spec.progress_interval_s, rows, total_steps
        self._seen_per_step = spec.training.batch_size
        self._epochs = spec.training.epochs
        self._started: float | None = None
        self._first_step = 0
        self._last = -math.inf
        self._losses: list[float] = []
        self._tokens = 0
        self._busy = 0.0

    def worked(self, tokens: int, seconds: float) -> None:
        """Counts a micro-batch, by the time it took itself: others may have run in between."""
        if self._started is None:
            self._started = time.monotonic() - seconds
        self._tokens += tokens
        self._busy += seconds

    def stepped(self, step: int, loss: float, learning_rate: float) -> TrainingProgress | None:
        """Counts a step; gives an event when one is due."""
        self._losses.append(loss)
        now = time.monotonic()
        if step < self._total and now - self._last < self._interval:
            return None
        if self._first_step == 0:
            self._first_step = step
        elapsed = now - (self._started if self._started is not None else now)
        event = TrainingProgress(
            step=step,
            total_steps=self._total,
            epoch=min(step * self._seen_per_step / self._rows, self._epochs),
            loss=sum(self._losses) / len(self._losses),
            learning_rate=learning_rate,
            tokens_per_second=self._tokens / self._busy if self._busy else 0.0,
            fraction_done=step / self._total,
            eta_s=elapsed / (step - self._first_step + 1) * (self._total - step),
        )
        self._last, self._losses, self._tokens, self._busy = now, [], 0, 0.0
        return event
