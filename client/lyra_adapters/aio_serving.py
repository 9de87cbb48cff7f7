# ruff: noqa: ASYNC109 - a call's deadline travels to the server; asyncio.timeout would not tell it
"""What a host that serves the model asks of the service, asyncio: see `serving_calls`."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from lyra_adapters import requests
from lyra_adapters.aio_streams import AsyncChangeStream, AsyncStream
from lyra_adapters.aio_transport import AsyncTransport
from lyra_adapters.download_plan import ContentsPlan, Deadline, Offer
from lyra_adapters.files import Downloaded, Reception
from lyra_adapters.models.versions import AdapterFormat
from lyra_adapters.resume import PointerPlan
from lyra_adapters.v1 import adapter_service_pb2 as pb


class AsyncServingCalls(AsyncTransport):
    """Following and fetching, for AsyncAdapterClient."""

    def watch_adapter(
        self,
        adapter: str,
        *,
        after_revision: int = 0,
        wait_for_adapter: bool = False,
        heartbeats: bool = False,
        timeout: float | None = None,
    ) -> AsyncChangeStream:
        """Every change of what is in force; as `AdapterClient.watch_adapter`."""
        request = pb.WatchAdapterRequest(
            adapter=adapter, after_revision=after_revision, wait_for_adapter=wait_for_adapter
        )
        plan = PointerPlan(
            request, self._policy, heartbeats=heartbeats, timeout=timeout, on_reconnect=self._on_reconnect
        )
        return AsyncChangeStream(self._opener(requests.new_request_id()), plan)

    async def download(
        self,
        adapter: str,
        to: str | os.PathLike[str],
        *,
        version: str = "",
        format: AdapterFormat | str | None = None,
        file: str = "",
        archive: bool = False,
        overwrite: bool = False,
        keep_partial: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
        timeout: float | None = None,
    ) -> Downloaded:
        """Writes a version's files to a directory; as `AdapterClient.download`. The disk is written on threads."""
        request = requests.download(adapter, version=version, format=format, file=file, archive=archive)
        start = self._opener(requests.new_request_id())
        deadline = Deadline(timeout)
        async with AsyncStream(
            start,
            ContentsPlan(request, self._policy, timeout=deadline.remaining(), on_reconnect=self._on_reconnect),
        ) as first:
            offer = Offer(request, await anext(first), on_progress)
        reception = Reception(Path(to), offer.files, overwrite=overwrite, keep_partial=keep_partial)
        await asyncio.to_thread(reception.__enter__)
        with contextlib.ExitStack() as leaving:
            leaving.push(reception)
            parts = reception.parts()
            while (part := await asyncio.to_thread(next, parts, None)) is not None:
                while not part.complete:
                    begun = part.offset
                    plan = offer.plan(part, self._policy, timeout=deadline.remaining(), on_reconnect=self._on_reconnect)
                    async with AsyncStream(start, plan) as stream:
                        async for data in stream:
                            await asyncio.to_thread(part.write, data)
                            offer.progress(part)
                    if begun and not part.right:
                        part.restart()
                offer.done(part)
            await asyncio.to_thread(reception.finish)
        return offer.downloaded(to)
