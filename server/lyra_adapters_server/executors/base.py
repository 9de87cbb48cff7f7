"""What the jobs layer asks of a place where training runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from lyra_adapters_server.trainer.events import Scored, TrainerEvent
from lyra_adapters_server.trainer.spec import ClassifySpec, FormatSpec, ScoreSpec, TrainSpec
from lyra_adapters_server.types import BaseCard, BaseState


class WorkerDied(Exception):
    """The worker ended while it had work; the work can be tried again."""


class WorkFailed(Exception):
    """The worker refused or broke off the work for a reason that trying again will not change."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


class Suspended(Exception):
    """The work was put aside on request; it can be gone on with."""


class Executor(Protocol):
    """A place where training runs."""

    def train(self, spec: TrainSpec) -> AsyncGenerator[TrainerEvent, None]:
        """Yields the events of a training; closing the iterator stops the work.

        Raises WorkerDied, WorkFailed, Suspended.
        """

    async def suspend(self, job_id: str) -> bool:
        """Asks a training to write a checkpoint and end with Suspended; False if none of that job runs."""

    async def score(self, spec: ScoreSpec) -> Scored:
        """Scores rows. Raises WorkerDied, WorkFailed."""

    async def classify(self, spec: ClassifySpec) -> Scored:
        """Gives probabilities of pairs. Raises WorkerDied, WorkFailed."""

    async def make_format(self, spec: FormatSpec) -> None:
        """Makes a version's files in another form. Raises WorkerDied, WorkFailed."""

    def card(self, alias: str) -> BaseCard | None:
        """What is known of a base model; None until it has been described."""

    def base_state(self, alias: str) -> BaseState:
        """Whether a base model's weights are in memory."""

    def load_error(self, alias: str) -> str:
        """Why a base model could not be described or loaded at the last try; empty if it could, or none has ended."""

    def on_ready(self, call: Callable[[], None]) -> None:
        """Calls back whenever a base model has become ready."""
