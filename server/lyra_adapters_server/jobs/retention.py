"""Deletes by itself what the settings say is old: versions beyond a number per adapter, and what ended jobs told."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection

from lyra_adapters_server.errors import Refusal
from lyra_adapters_server.logs import without_text
from lyra_adapters_server.registry import deletion
from lyra_adapters_server.registry.layout import Layout
from lyra_adapters_server.registry.names import full_name
from lyra_adapters_server.scope import EVERYTHING
from lyra_adapters_server.storage import jobs
from lyra_adapters_server.storage import versions as store
from lyra_adapters_server.storage.database import Database, now_us

log = structlog.get_logger()

ACTOR = "retention"
DAY_US = 86_400 * 1_000_000


@dataclass(frozen=True)
class Keep:
    """The settings that concern retention; 0: keep everything."""

    versions: int
    job_days: float
    # Seconds between two looks.
    interval_s: float = 60.0


class Retention:
    """Looks now and then, and deletes."""

    def __init__(self, database: Database, layout: Layout, keep: Keep) -> None:
        self._database = database
        self._layout = layout
        self._keep = keep
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts looking, if anything is to be deleted at all."""
        if self._keep.versions or self._keep.job_days:
            self._loop = asyncio.create_task(self._run(), name="retention")

    async def stop(self) -> None:
        """Stops; what has begun is finished by the next look."""
        if self._loop:
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop

    async def look(self) -> None:
        """Deletes what is old now. Raises StorageFailed."""
        if self._keep.versions:
            for adapter, number in await self._database.read(lambda c: old_versions(c, self._keep.versions)):
                name = full_name(adapter, number)
                reason = f"only the newest {self._keep.versions} versions are kept"
                try:
                    await deletion.delete_version(self._database, self._layout, adapter, f"v{number}", ACTOR, reason)
                    log.info("version_deleted", version=name, reason=reason)
                except Refusal as error:
                    # In force, or in use, since it was looked for: next time.
                    log.info("version_kept", version=name, reason=error.reason)
        if self._keep.job_days:
            before = now_us() - int(self._keep.job_days * DAY_US)
            if count := await self._database.write(lambda c: jobs.forget_ended(c, before)):
                log.info("jobs_forgotten", what="events and rows of jobs that ended long ago", jobs=count)

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception as error:  # retention must outlive a full disk
                log.error("retention_failed", **without_text(error))
            await asyncio.sleep(self._keep.interval_s)


def old_versions(connection: Connection, keep: int) -> list[tuple[str, int]]:
    """The versions of each adapter beyond the newest `keep`, oldest first.

    Never the one in force nor the one that a rollback would return to.
    """
    found = []
    for pointer in store.all_pointers(connection, EVERYTHING):
        versions, _ = store.page_of_versions(connection, scope=EVERYTHING, adapter=pointer.adapter, limit=-1)
        needed = {pointer.active, _one_step_back(connection, pointer.adapter, pointer.pointer_revision)}
        found += [(v.adapter, v.number) for v in reversed(versions[keep:]) if v.number not in needed]
    return found


def _one_step_back(connection: Connection, adapter: str, revision: int) -> int | None:
    current = store.find_activation(connection, adapter, revision)
    if current is None or current.parent is None:
        return None
    below = store.find_activation(connection, adapter, current.parent)
    return below.active if below else None
