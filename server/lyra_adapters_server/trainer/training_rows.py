"""The rows of a training as tokens: those that were sent, general ones, and pairs to be answered as before."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

from lyra_adapters_server.trainer.balance import row_weights
from lyra_adapters_server.trainer.base import Base
from lyra_adapters_server.trainer.data import encode_pairs, encode_rows, make_batch, split_by_length
from lyra_adapters_server.trainer.distillation import recombine
from lyra_adapters_server.trainer.exhaustion import TokenBudget, is_exhaustion, let_frames_go
from lyra_adapters_server.trainer.known_scores import Probabilities
from lyra_adapters_server.trainer.lower_half import MOST_BYTES
from lyra_adapters_server.trainer.score import Subject, read_prompt, score_set
from lyra_adapters_server.trainer.spec import TrainSpec
from lyra_adapters_server.types import Pair


class TrainingRows:
    """What a job trains on, with weights and targets.

    Attributes:
        all: The training samples' rows in their order, then general rows that are replayed, then pairs to be answered
            as what the training starts from answers them.
        held_out: Of the validation samples.
        distilled: How many of the rows are such pairs.
        answers: What those pairs' targets are; None until `answer` or `know` has set them.
    """

    def __init__(self, spec: TrainSpec, base: Base, max_length: int) -> None:
        """Tokenises everything once, under the base's own prompt."""
        samples = (*spec.training_samples, *spec.replay_samples)
        own = encode_rows(samples, base.encoder, max_length)
        weights = row_weights(samples, spec.training)
        if weights is not None:
            own = [replace(row, weight=weight) for row, weight in zip(own, weights, strict=True)]
        self._parent, self._max_length = spec.continue_from, max_length
        self._pairs = _recombined(spec)
        pairs = encode_pairs(self._pairs, base.encoder, max_length)
        self.all = [*own, *pairs]
        self.distilled = len(pairs)
        self.held_out = encode_rows(spec.validation_samples, base.encoder, max_length)
        self.answers: Probabilities | None = None

    @property
    def truncated(self) -> int:
        """How many samples were too long."""
        return sum(row.truncated for row in (*self.all[: len(self.all) - self.distilled], *self.held_out))

    def answer(self, base: Base, subject: Subject, budget: TokenBudget) -> Generator[None, None, None]:
        """Asks what the training starts from, unless its answers are known; yields after each micro-batch.

        It is asked under its own prompt, which is what it was trained with; the base may have another by now.
        """
        if not self.distilled or self.answers is not None:
            return
        rows = self.all[-self.distilled :]
        if self._parent is not None and self._parent.directory:
            encoder = read_prompt(Path(self._parent.directory), base)
            if encoder.describe() != subject.encoder.describe():
                rows = encode_pairs(self._pairs, encoder, self._max_length)
                subject = replace(subject, encoder=encoder, head=base.head(encoder, subject.adapter))
        found = yield from score_set(base, subject, rows, budget)
        self.know(found)

    def keep_lower_half(self, base: Base, subject: Subject, budget: TokenBudget) -> Generator[None, None, None]:
        """Computes what the layers below the adapter give of each row, as far as it is to be kept.

        Rows are computed in an order that depends on nothing but them, so that a job that is resumed finds the same.
        """
        if subject.adapter is None or subject.adapter.lower_half is None:
            return
        split = split_by_length([len(row.tokens) for row in self.all], budget.tokens)
        left = MOST_BYTES
        for places in split:
            batch = make_batch([self.all[place] for place in places], base.padding, base.device)
            try:
                states = base.lower_states(subject.adapter, batch, subject.head)
            except Exception as error:
                if not is_exhaustion(error):
                    raise
                let_frames_go(error)
                return
            left -= sum(state.nbytes for state in states)
            if left < 0:
                return
            for place, state in zip(places, states, strict=True):
                self.all[place] = replace(self.all[place], lower=state)
            yield

    def know(self, answers: Probabilities) -> None:
        """Takes the answers, such as those of a checkpoint."""
        self.answers = answers
        first = len(self.all) - self.distilled
        for place, answer in enumerate(answers, start=first):
            self.all[place] = replace(self.all[place], target=answer)


def _recombined(spec: TrainSpec) -> list[Pair]:
    ratio = spec.training.distillation
    if not ratio:
        return []
    # With one fold, rows that choose the best step are not trained on, nor are their texts.
    chosen: Sequence[int] = spec.inner[0] if spec.inner is not None and len(spec.inner) == 1 else ()
    left_out = set(chosen)
    samples = [sample for index, sample in enumerate(spec.training_samples) if index not in left_out]
    return recombine(samples, round(ratio * len(samples)), spec.training.seed)
