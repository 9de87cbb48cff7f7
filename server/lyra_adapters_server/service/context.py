"""What the RPCs work on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lyra_adapters_server.executors.base import Executor
from lyra_adapters_server.feedback.general import GeneralRows
from lyra_adapters_server.jobs.limits import QueueLimits
from lyra_adapters_server.jobs.log import EventLog
from lyra_adapters_server.jobs.stopping import Stopping
from lyra_adapters_server.jobs.supervisor import Supervisor
from lyra_adapters_server.registry.formats import Formats
from lyra_adapters_server.registry.layout import Layout
from lyra_adapters_server.service.metrics import Metrics
from lyra_adapters_server.storage.database import Database
from lyra_adapters_server.trainer.spec import BaseModelConfig


@dataclass(frozen=True)
class ClassifyLimits:
    """How much callers may ask of the model beside a training."""

    # Calls that may wait for the model at a time.
    waiting: int
    # Longest wait in seconds.
    wait_s: float


@dataclass(frozen=True)
class Service:
    """The parts of a running server. Times in microseconds since the epoch, intervals in seconds."""

    database: Database
    layout: Layout
    formats: Formats
    log: EventLog
    executor: Executor
    supervisor: Supervisor
    stopping: Stopping
    # The allow-list; the first is the default.
    bases: tuple[BaseModelConfig, ...]
    # The general rows of each base model, by alias.
    general: Mapping[str, GeneralRows]
    heartbeat_s: float
    classify_limits: ClassifyLimits
    queue_limits: QueueLimits
    metrics: Metrics
    start_time: int
    version: str
