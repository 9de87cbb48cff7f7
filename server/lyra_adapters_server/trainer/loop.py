"""Training: a spec in, events out, one micro-batch at a time."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from lyra_adapters_server import failpoints
from lyra_adapters_server.trainer.base import Base
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.calibration import at_temperature, fit_temperature
from lyra_adapters_server.trainer.checkpoint import Checkpoint, Checkpoints, Unusable, fingerprint
from lyra_adapters_server.trainer.data import Row, split_by_length, training_order
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.events import (
    Calibration,
    Checkpointed,
    Evaluated,
    Trained,
    TrainerEvent,
    TrainerWarning,
    TrainingStarted,
)
from lyra_adapters_server.trainer.exhaustion import TokenBudget, is_exhaustion, let_frames_go
from lyra_adapters_server.trainer.fused import Dropout
from lyra_adapters_server.trainer.learning_rate import learning_rate_at
from lyra_adapters_server.trainer.memory import give_back
from lyra_adapters_server.trainer.metrics import compute_metrics, row_loss
from lyra_adapters_server.trainer.micro_batch import backward, forward
from lyra_adapters_server.trainer.plan import settle, under
from lyra_adapters_server.trainer.progress import ProgressMeter
from lyra_adapters_server.trainer.resumption import what_differs
from lyra_adapters_server.trainer.schedule import Schedule
from lyra_adapters_server.trainer.score import (
    Subject,
    read_temperature,
    score_champion,
    score_rows,
    score_set,
    write_prompt,
)
from lyra_adapters_server.trainer.spec import TrainSpec
from lyra_adapters_server.trainer.state import TrainState
from lyra_adapters_server.trainer.suspend import Suspend
from lyra_adapters_server.trainer.targets import target_modules
from lyra_adapters_server.trainer.training_rows import TrainingRows
from lyra_adapters_server.types import Metrics

Events = Generator[TrainerEvent | None, None, None]


def train(spec: TrainSpec, bases: Bases) -> Iterator[TrainerEvent | None]:
    """Trains an adapter and writes its files. Yields events, and None after each micro-batch.

    Everything random follows from the spec's seed: the same spec under the same plan gives the same bytes on CPU, also
    where the training was interrupted and went on from a checkpoint. Suspend, thrown into it at any point, makes it
    write a checkpoint and end.

    Raises:
        TrainerError: NO_TRAINING_SAMPLES; LOSS_NOT_FINITE; TARGET_MODULES_UNKNOWN; CONTINUE_FROM_SHRINKS;
            OUT_OF_MEMORY; DISK_FULL; CHECKPOINT_FAILED; and what loading a base or an adapter raises.
    """
    if not spec.training_samples:
        raise TrainerError("NO_TRAINING_SAMPLES", "there is nothing to train on")
    before = None
    if spec.validation_samples and spec.champion.base_alias != spec.base_alias:
        # What is in force stands on another base. First, so that never two bases are needed at a time.
        yield from bases.prepare(spec.champion.base_alias)
        with bases.use(spec.champion.base_alias) as base:
            before = yield from score_champion(spec, base)
    yield from bases.prepare(spec.base_alias)
    with bases.use(spec.base_alias) as base:
        run = _Run(spec, base, before)
        yield from under(run.plan, run.events())


class _Run:
    """A training on its base, from the beginning or from its newest checkpoint.

    Attributes:
        plan: What it is computed under.
    """

    def __init__(self, spec: TrainSpec, base: Base, before: Metrics | None) -> None:
        self._spec, self._base, self._training, self._before = spec, base, spec.training, before
        self._max_length = min(spec.training.max_length, base.card.max_length)
        self._data = TrainingRows(spec, base, self._max_length)
        self._all, self._held_out = self._data.all, self._data.held_out
        self._schedule = Schedule(spec, self._all)
        self.plan, self._differences = settle(spec.plan, base)
        self._budget = TokenBudget(self.plan.train_token_budget)
        self._score_budget = TokenBudget(self.plan.score_token_budget)
        self._open(0)
        # Whether the caller has been told how what is in force scores.
        self._knows_before = False
        self._clock = time.monotonic()
        self._checkpoints = self._open_checkpoints()
        self._unusable: list[Unusable] = []
        found: Checkpoint | None = None
        if self._checkpoints is not None:
            found, self._unusable = self._checkpoints.newest()
        self._resumed = found is not None
        if found is not None:
            self._restore(found)

    def _open(self, index: int, seconds: float = 0.0) -> None:
        """Makes everything ready for a run: a new adapter, its optimizer, and the order of its rows."""
        spec, base = self._spec, self._base
        self._run = self._schedule.open(index)
        self._training = self._run.training
        # None: nothing is compared on the held-out rows, so they may choose the best step.
        self._inner = self._held_out if spec.inner is None else [self._all[row] for row in self._run.inner]
        self._adapter = base.new_adapter(spec.lora, target_modules(base, spec.lora), self._training.seed)
        if spec.continue_from is not None and spec.continue_from.directory:
            self._adapter.continue_from(Path(spec.continue_from.directory))
        self._subject = Subject(self._adapter, base.encoder, base.head(base.encoder, self._adapter))
        self._dropout = Dropout(spec.lora.dropout, self._training.seed)
        self._state = TrainState(self._adapter, self._training)
        self._state.seconds = seconds
        self._order = training_order(
            [len(self._all[row].tokens) for row in self._run.rows],
            self._training.epochs,
            self._training.batch_size,
            self._training.seed,
        )
        self._last_step = self._schedule.last_step(len(self._order))
        self._progress = ProgressMeter(
            spec.progress_interval_s,
            self._run,
            len(self._schedule.runs),
            self._schedule.steps_before,
            self._schedule.total_steps,
        )

    def _open_checkpoints(self) -> Checkpoints | None:
        spec = self._spec
        if spec.checkpoints is None:
            return None
        parent = spec.continue_from.name if spec.continue_from else ""
        inner = json.dumps(spec.inner)
        settings = (spec.job_id, spec.lora.model_dump_json(), spec.training.model_dump_json(), parent, inner)
        identity = self._base.card.identity.model_dump_json()
        same = fingerprint((*settings, identity), (*self._all, *self._held_out))
        return Checkpoints(spec.checkpoints, same)

    def events(self) -> Events:
        """Trains to the end, or until it is told to suspend."""
        try:
            yield from self._begin()
            stopped_early = yield from self._carry_out()
            while self._schedule.more:
                self._open(self._schedule.next, self._state.seconds)
                yield from self._checkpoint()
                stopped_early = yield from self._carry_out()
            yield from self._finish(stopped_early)
        except Suspend:
            yield from self._checkpoint()

    def _begin(self) -> Events:
        spec = self._spec
        yield TrainingStarted(
            training_samples=len(spec.training_samples),
            validation_samples=len(self._held_out),
            inner_samples=len({row for fold in spec.inner or () for row in fold}),
            replayed_general_rows=len(spec.replay_samples),
            distilled_pairs=self._data.distilled,
            total_steps=self._schedule.total_steps,
            device=self._base.card.device,
            dtype=self._base.card.dtype,
            trainable_parameters=sum(parameter.numel() for parameter in self._adapter.parameters.values()),
            plan=self.plan,
            step=self._step_of_job,
        )
        yield from what_differs(self._unusable, self._differences, self._step_of_job)
        if self._data.truncated and not self._resumed:
            yield TrainerWarning(
                reason="SAMPLES_TRUNCATED",
                message=f"{self._data.truncated} samples are longer than {self._max_length} tokens; of their premises "
                "stays what the hypotheses speak of",
            )
        if self._held_out and not self._knows_before:
            if self._before is None:
                self._before = yield from score_champion(spec, self._base, self._held_out, self._score_budget)
                yield from self._say_if_reduced()
            self._knows_before = True
            yield Evaluated(stage="BEFORE", subject=spec.champion.name, metrics=self._before, step=0)
        yield from self._data.answer(self._base, self._subject, self._score_budget)
        yield from self._data.keep_lower_half(self._base, self._subject, self._score_budget)
        yield from self._say_if_reduced()
        if self._checkpoints is not None:
            self._checkpoints.begin(self._step_of_job)

    @property
    def _step_of_job(self) -> int:
        return self._schedule.steps_before + self._state.step

    def _carry_out(self) -> Generator[TrainerEvent | None, None, bool]:
        """Does the run under way, or what is left of it; returns whether it stopped before its last step."""
        if self._schedule.dropped:
            return False
        try:
            stopped_early = yield from self._train()
        except TrainerError as error:
            warning = self._schedule.drop(error)
            if warning is None:
                raise
            yield warning
            return False
        yield from self._close()
        return stopped_early

    def _train(self) -> Generator[TrainerEvent | None, None, bool]:
        """Does the steps that are left; returns whether it stopped before the last."""
        state, patience = self._state, self._training.patience
        evaluate_at = self._evaluation_steps() if self._inner else set()
        while True:
            if state.step in evaluate_at and state.evaluated_step < state.step:
                yield from self._validate()
            if state.step == self._last_step:
                return False
            if 0 < patience <= state.evaluations_without_gain:
                return True
            if self._checkpoints is not None and self._checkpoints.due(self._step_of_job):
                yield from self._checkpoint()
            yield from self._step()

    def _close(self) -> Events:
        """Ends a run: its best step's weights, and what they say of the rows that chose them."""
        self._count_time()
        self._state.restore_best()
        if self._inner and self._spec.inner is not None and not self._schedule.closed:
            found = yield from score_rows(self._base, self._subject, self._inner, self._score_budget)
            best = self._state.best_step / len(self._order)
            self._schedule.close(found, best, self._adapter.parameters)

    def _finish(self, stopped_early: bool) -> Events:
        spec, state, schedule = self._spec, self._state, self._schedule
        best_step = schedule.steps_before + (state.best_step or state.step)
        if (winner := schedule.winner) is not None:
            winner.restore(self._adapter.parameters)
            best_step = winner.best_step
        temperature, fitted_on, cross_fitted = schedule.temperature
        if not fitted_on and spec.inner is not None and spec.continue_from is not None and spec.continue_from.directory:
            # Nothing could fit its own: that of what it grew from is nearer than none.
            temperature = read_temperature(Path(spec.continue_from.directory))
        after, without = state.best_metrics if spec.inner is None else None, None
        if self._held_out and after is None:
            found = yield from score_set(self._base, self._subject, self._held_out, self._score_budget)
            self._check("sum of the held-out rows' probabilities", sum(map(sum, found)), best_step)
            labels = [row.label for row in self._held_out]
            without = compute_metrics(found, labels)
            after = compute_metrics(at_temperature(found, temperature), labels, temperature)
        self._count_time()
        if after is not None:
            yield Evaluated(stage="AFTER", subject="", metrics=after, step=best_step, best=True)
        output = Path(spec.output_dir)
        with failpoints.step("adapter.write"):
            output.mkdir(parents=True, exist_ok=True)
            self._adapter.save(output)
            write_prompt(output, self._base.encoder, self._max_length, temperature)
        yield Trained(
            metrics_before=self._before,
            metrics_after=after,
            best_step=best_step,
            steps=self._step_of_job,
            stopped_early=stopped_early,
            truncated_samples=self._data.truncated,
            distilled_pairs=self._data.distilled,
            training_seconds=state.seconds,
            plan=self.plan,
            calibration=Calibration(
                temperature=temperature,
                rows=fitted_on,
                cross_fitted=cross_fitted,
                uncalibrated=without,
                calibrated=after if without else None,
            ),
            runs=schedule.summary(),
        )

    def _checkpoint(self) -> Events:
        if self._checkpoints is None:
            return
        self._count_time()
        content = {
            "state": self._state.numbers(),
            "schedule": self._schedule.numbers(),
            "champion": self._spec.champion.model_dump(mode="json"),
            "before": self._before.model_dump(mode="json") if self._knows_before and self._before else None,
            "answers": self._data.answers,
        }
        tensors = {**self._state.tensors(), **self._schedule.tensors()}
        seconds, size = self._checkpoints.write(self._step_of_job, tensors, content)
        yield Checkpointed(step=self._step_of_job, seconds=seconds, size_bytes=size)

    def _restore(self, checkpoint: Checkpoint) -> None:
        content = checkpoint.content
        self._schedule.restore(checkpoint.tensors, content["schedule"])
        self._open(self._schedule.index)
        self._state.restore(checkpoint.tensors, content["state"])
        if content.get("answers"):
            self._data.know([tuple(row) for row in content["answers"]])
        # What is in force may have changed since; then it is scored again.
        if content["before"] and content["champion"] == self._spec.champion.model_dump(mode="json"):
            self._before, self._knows_before = Metrics.model_validate(content["before"]), True

    def _count_time(self) -> None:
        now = time.monotonic()
        self._state.seconds += now - self._clock
        self._clock = now

    def _step(self) -> Events:
        rate = learning_rate_at(
            self._state.step + 1, len(self._order), self._training.learning_rate, self._training.warmup_ratio
        )
        loss: float | None = None
        while loss is None:
            loss = yield from self._gradients()
            if loss is not None:
                self._check("loss", loss, self._step_of_job + 1)
            if loss is not None and not self._update(rate):
                loss = None
            yield from self._say_if_reduced()
        event = self._progress.stepped(self._state.step, loss, rate, last=self._state.step == self._last_step)
        if event is not None:
            yield event

    def _gradients(self) -> Generator[None, None, float | None]:
        """Gathers a step's gradients; returns its loss, or None if memory ran out: then it must be begun again."""
        rows = self._rows_of_step()
        loss = 0.0
        lengths = [len(row.tokens) for row in rows]
        split = split_by_length(lengths, self._budget.tokens, packed=self._base.packs)
        for number, positions in enumerate(split):
            batch = [rows[position] for position in positions]
            tokens = sum(len(row.tokens) for row in batch)
            start = time.monotonic()
            self._dropout.start(self._state.step, number)
            smoothing = self._training.label_smoothing
            part = forward(self._base, self._subject, batch, self._dropout, smoothing, of=len(rows))
            self._progress.worked(0, time.monotonic() - start)
            # Two turns, since each takes about as long: the graph stands while others use the base.
            yield None
            start = time.monotonic()
            found = None if part is None else backward(part)
            del part
            if found is None:
                self._go_on_with_less(batch)
                return None
            loss += found
            self._progress.worked(tokens, time.monotonic() - start)
            yield None
        return loss

    def _rows_of_step(self) -> list[Row]:
        return [self._all[self._run.rows[index]] for index in self._order[self._state.step]]

    def _update(self, rate: float) -> bool:
        """Does the optimizer's step; False if memory ran out, and the whole step must be begun again."""
        try:
            norm = self._state.update(rate, self._training.max_grad_norm)
        except Exception as error:
            if not is_exhaustion(error):
                raise
            let_frames_go(error)
            rows = self._rows_of_step()
            self._go_on_with_less(rows)
            return False
        self._check("norm of the gradients", norm, self._step_of_job)
        return True

    def _check(self, what: str, value: float, step: int) -> None:
        if not math.isfinite(value):
            message = f"the {what} is {value} at step {step}; a lower learning_rate may help"
            raise TrainerError("LOSS_NOT_FINITE", message)

    def _go_on_with_less(self, rows: Sequence[Row]) -> None:
        """After memory ran out over these rows: the step begins again with smaller micro-batches."""
        self._state.discard_gradients()
        give_back(self._base.device)
        self._budget.halve(len(rows), max(len(row.tokens) for row in rows))

    def _say_if_reduced(self) -> Events:
        before = self.plan.train_token_budget, self.plan.score_token_budget
        now = self._budget.tokens, self._score_budget.tokens
        if before == now:
            return
        self.plan = self.plan.model_copy(update={"train_token_budget": now[0], "score_token_budget": now[1]})
        what, old, new = ("training", before[0], now[0]) if before[0] != now[0] else ("scoring", before[1], now[1])
        yield TrainerWarning(
            reason="MICRO_BATCH_HALVED",
            message=f"Memory ran out, so {what} goes on in micro-batches of at most {new} tokens; before it was {old}. "
            f"A step still takes {self._training.batch_size} rows: it becomes slower, not different.",
            plan=self.plan,
        )

    def _evaluation_steps(self) -> set[int]:
        count = self._training.epochs * self._training.evaluations_per_epoch
        return {max(1, round(len(self._order) * number / count)) for number in range(1, count + 1)}

    def _validate(self) -> Events:
        found = yield from score_rows(self._base, self._subject, self._inner, self._score_budget)
        yield from self._say_if_reduced()
        self._check("sum of the inner rows' probabilities", sum(map(sum, found)), self._step_of_job)
        labels, weights = [row.label for row in self._inner], [row.weight for row in self._inner]
        # None is fitted on held-out rows, which choose the step where there is no gate.
        temperature = 1.0 if self._spec.inner is None else fit_temperature(found, labels, weights)
        found = at_temperature(found, temperature)
        metrics = compute_metrics(found, labels, temperature, weights)
        losses = [weight * row_loss(row, label) for row, label, weight in zip(found, labels, weights, strict=True)]
        best = self._state.note(metrics, losses)
        yield Evaluated(
            stage="VALIDATION",
            subject="",
            metrics=metrics,
            step=self._step_of_job,
            best=best,
            run=self._run.number,
            run_name=self._run.name,
        )
