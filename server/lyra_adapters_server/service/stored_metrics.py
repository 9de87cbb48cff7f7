"""Metrics that are read when Prometheus asks: what storage holds, and how much memory the processes use.

Read from storage they are exact after a restart and where two servers share a registry; nothing can forget to count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lyra_adapters_server.service.metrics import PREFIX
from lyra_adapters_server.storage import counts as store
from lyra_adapters_server.storage.database import Database, now_us


class StoredMetrics(Collector):
    """Collects on the thread that serves the metrics."""

    def __init__(self, database: Database, worker_pid: Callable[[], int | None]) -> None:
        self._database = database
        self._worker_pid = worker_pid
        self._server = psutil.Process()

    def describe(self) -> list[Metric]:
        """Nothing in advance: registering must not read storage."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Reads them, storage on one snapshot."""
        counts = self._database.read_now(store.count_all)
        jobs = GaugeMetricFamily(f"{PREFIX}jobs", "Jobs in the registry, by state.", labels=["state"])
        for state, count in counts.jobs.items():
            jobs.add_metric([state], count)
        yield jobs
        age = max(0.0, (now_us() - counts.oldest_queued) / 1e6) if counts.oldest_queued else 0.0
        yield GaugeMetricFamily(
            f"{PREFIX}queue_age_seconds", "Seconds that the job which waits longest has waited; 0: none waits.", age
        )
        yield GaugeMetricFamily(f"{PREFIX}versions", "Versions in the registry.", counts.versions)
        changes = CounterMetricFamily(
            f"{PREFIX}pointer_changes", "Changes of what is in force, by kind, over all names.", labels=["kind"]
        )
        for kind, count in counts.pointer_changes.items():
            changes.add_metric([kind], count)
        yield changes
        memory = GaugeMetricFamily(
            f"{PREFIX}resident_memory_bytes", "Resident memory, by process: server and trainer.", labels=["process"]
        )
        memory.add_metric(["server"], self._server.memory_info().rss)
        memory.add_metric(["trainer"], _resident(self._worker_pid()))
        yield memory


def _resident(pid: int | None) -> int:
    """A process's resident memory in bytes; 0 where it is not there."""
    try:
        return int(psutil.Process(pid).memory_info().rss) if pid else 0
    except psutil.Error:
        return 0
