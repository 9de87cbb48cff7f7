"""What a host that serves the model asks of the service: what is in force, and its files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from lyra_adapters import requests
from lyra_adapters.download_plan import ContentsPlan, Deadline, Offer
from lyra_adapters.files import Downloaded, Reception
from lyra_adapters.models.versions import AdapterFormat
from lyra_adapters.resume import PointerPlan
from lyra_adapters.streams import ChangeStream, Stream
from lyra_adapters.transport import Transport
from lyra_adapters.v1 import adapter_service_pb2 as pb


class ServingCalls(Transport):
    """Following and fetching, for AdapterClient."""

    def watch_adapter(
        self,
        adapter: str,
        *,
        after_revision: int = 0,
        wait_for_adapter: bool = False,
        heartbeats: bool = False,
        timeout: float | None = None,
    ) -> ChangeStream:
        """Every change of what is in force under a name after `after_revision`; never ends by itself.

        Args:
            adapter: The adapter.
            after_revision: Only changes with a higher `pointer_revision`. Default: all.
            wait_for_adapter: Wait for an adapter that does not exist yet instead of raising NotFound.
            heartbeats: Also yield heartbeats (`heartbeat` is true, `pointer_revision` 0).
            timeout: Seconds for the whole stream. Default: none.
        """
        request = pb.WatchAdapterRequest(
            adapter=adapter, after_revision=after_revision, wait_for_adapter=wait_for_adapter
        )
        plan = PointerPlan(
            request, self._policy, heartbeats=heartbeats, timeout=timeout, on_reconnect=self._on_reconnect
        )
        return ChangeStream(self._opener(requests.new_request_id()), plan)

    def download(
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
        """Writes a version's files to the directory `to`, each checked against its digest.

        A broken stream is taken up where it broke. A directory that is not there yet appears at once with all its
        files; what is there already with the right content is not fetched again.

        Args:
            adapter: The adapter.
            to: The directory.
            version: `v3`. Default: what is in force.
            format: The form of the files. Default: PEFT.
            file: Only this file, by its path.
            archive: All files as one tar instead.
            overwrite: Replace files that are there with other content.
            keep_partial: When the download breaks, keep what has come, hidden beside the goal; the next one goes on
                from there. Default: nothing stays behind.
            on_progress: Called with the bytes that have come and those of the whole; what it raises ends the download.
            timeout: Seconds for all of it. Default: none.

        Raises:
            FailedPrecondition: `base` is in force, or the version can't be had in this form.
            AlreadyExists: A file is there with other content.
            DataLoss: A file does not have its digest, or a path that leads out of the directory.
            OSError: The disk is full, or can't be written.
        """
        request = requests.download(adapter, version=version, format=format, file=file, archive=archive)
        start = self._opener(requests.new_request_id())
        deadline = Deadline(timeout)
        with Stream(
            start,
            ContentsPlan(request, self._policy, timeout=deadline.remaining(), on_reconnect=self._on_reconnect),
        ) as first:
            offer = Offer(request, next(first), on_progress)
        with Reception(Path(to), offer.files, overwrite=overwrite, keep_partial=keep_partial) as reception:
            for part in reception.parts():
                while not part.complete:
                    begun = part.offset
                    plan = offer.plan(part, self._policy, timeout=deadline.remaining(), on_reconnect=self._on_reconnect)
                    with Stream(start, plan) as stream:
                        for data in stream:
                            part.write(data)
                            offer.progress(part)
                    if begun and not part.right:
                        # What an earlier try had left was not what it should be.
                        part.restart()
                offer.done(part)
            reception.finish()
        return offer.downloaded(to)
