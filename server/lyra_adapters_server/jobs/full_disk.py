"""What becomes of a job on a full disk: it fails, and its end is written down as soon as that is possible."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from lyra_adapters_server.storage.trouble import DISK_FULL, StorageFailed

logger = structlog.get_logger()

# How often it is tried again.
PAUSE_S = 1.0

NO_SPACE = (
    "The disk that holds the registry is full, so the adapter could not be kept; what is in force has not changed. "
    "Free space there or delete versions, then send the job again."
)


async def write_when_possible(job_id: str, write: Callable[[], Awaitable[object]], stopping: asyncio.Event) -> None:
    """Writes a job's end; again and again where not even the reserve is left, since somebody else took its space.

    Raises StorageFailed for any other trouble, and once the server stops; what `write` raises.
    """
    logged = False
    while True:
        try:
            await write()
            return
        except StorageFailed as error:
            if error.reason != DISK_FULL or stopping.is_set():
                raise
            if not logged:
                logged = True
                logger.error("end_not_written", job_id=job_id, reason=error.reason, message=error.message)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PAUSE_S):
                await stopping.wait()
