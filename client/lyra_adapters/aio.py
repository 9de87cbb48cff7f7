# ruff: noqa: ASYNC109 - a call's deadline travels to the server; asyncio.timeout would not tell it
"""The asyncio client: the same surface as `AdapterClient`, whose documentation holds for both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace

from lyra_adapters import requests
from lyra_adapters.aio_feedback import AsyncFeedbackCalls
from lyra_adapters.aio_serving import AsyncServingCalls
from lyra_adapters.aio_streams import AsyncEventStream
from lyra_adapters.models.report import Report
from lyra_adapters.models.service import Classifications, Job, JobState, ServiceStatus
from lyra_adapters.models.training import Activation, ConflictPolicy
from lyra_adapters.models.versions import AdapterVersion, DeletedVersion, Page, PointerMove, VersionState
from lyra_adapters.v1 import adapter_service_pb2 as pb


class AsyncAdapterClient(AsyncFeedbackCalls, AsyncServingCalls):
    """Speaks to one server from one event loop; an async context manager. See `AdapterClient`."""

    # ------------------------------------------------------------------------------------------------ training

    def train(
        self,
        samples: Iterable[requests.SampleLike] | None = None,
        *,
        adapter: str = "",
        task_id: str = "",
        actor: str = "",
        domain: str = "",
        feedback: requests.FeedbackLike | bool | None = None,
        base_model: str = "",
        lora: requests.LoraLike | None = None,
        training: requests.TrainingLike | None = None,
        trigger: requests.TriggerLike | None = None,
        activation: Activation | str | None = None,
        continue_from: str = "",
        conflicts: ConflictPolicy | str | None = None,
        request_id: str | None = None,
        heartbeats: bool = False,
        timeout: float | None = None,
    ) -> AsyncEventStream:
        """Starts a training job and streams its events; arguments and errors as `AdapterClient.train`."""
        request = requests.train(
            samples,
            adapter=adapter,
            task_id=task_id,
            actor=actor,
            domain=domain,
            feedback=feedback,
            base_model=base_model,
            lora=lora,
            training=training,
            trigger=trigger,
            activation=activation,
            continue_from=continue_from,
            conflicts=conflicts,
            request_id=request_id,
        )
        return self._events(request, request.request_id, heartbeats, timeout)

    def watch(
        self, job_id: str, *, after_sequence: int = 0, heartbeats: bool = False, timeout: float | None = None
    ) -> AsyncEventStream:
        """The events of a job after `after_sequence`, to its end, during and after the job."""
        request = pb.WatchRequest(job_id=job_id, after_sequence=after_sequence)
        return self._events(request, requests.new_request_id(), heartbeats, timeout)

    async def wait(self, job_id: str, *, timeout: float | None = None) -> AdapterVersion:
        """Waits for the end of a job and returns its version as it stood then.

        Raises:
            TrainingFailed: The job failed.
            TrainingCancelled: The job was cancelled.
        """
        async with self.watch(job_id, timeout=timeout) as stream:
            return await stream.result()

    async def cancel(self, job_id: str, *, actor: str = "", reason: str = "", timeout: float | None = None) -> Job:
        """Stops a queued or running job; its partial work is not published."""
        return await self._run(requests.cancel(job_id, actor=actor, reason=reason), timeout)

    # ------------------------------------------------------------------------------------------------- looking

    async def status(self, *, timeout: float | None = None) -> ServiceStatus:
        """The state of the service."""
        return await self._run(requests.status(), timeout)

    async def job(self, job_id: str, *, timeout: float | None = None) -> Job:
        """The state of one job."""
        return await self._run(requests.job(job_id), timeout)

    async def list(
        self,
        adapter: str = "",
        *,
        states: Iterable[VersionState | str] = (),
        task_id: str = "",
        page_size: int = 0,
        page_token: str = "",
        include_history: bool = False,
        timeout: float | None = None,
    ) -> Page[AdapterVersion]:
        """One page of versions, newest first; with `include_history` also the changes of the adapter's pointer."""
        call = requests.versions(
            adapter=adapter,
            states=states,
            task_id=task_id,
            page_size=page_size,
            page_token=page_token,
            include_history=include_history,
        )
        return await self._run(call, timeout)

    async def versions(
        self,
        adapter: str = "",
        *,
        states: Iterable[VersionState | str] = (),
        task_id: str = "",
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[AdapterVersion]:
        """All versions, newest first, page after page; `timeout` is for each page."""
        token, states = "", tuple(states)
        while True:
            page = await self.list(
                adapter, states=states, task_id=task_id, page_size=page_size, page_token=token, timeout=timeout
            )
            for item in page.items:
                yield item
            token = page.next_page_token
            if not token:
                return

    async def list_jobs(
        self,
        adapter: str = "",
        *,
        states: Iterable[JobState | str] = (),
        task_id: str = "",
        page_size: int = 0,
        page_token: str = "",
        timeout: float | None = None,
    ) -> Page[Job]:
        """One page of jobs, newest first."""
        call = requests.jobs(
            adapter=adapter, states=states, task_id=task_id, page_size=page_size, page_token=page_token
        )
        return await self._run(call, timeout)

    async def jobs(
        self,
        adapter: str = "",
        *,
        states: Iterable[JobState | str] = (),
        task_id: str = "",
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[Job]:
        """All jobs, newest first, page after page; `timeout` is for each page."""
        token, states = "", tuple(states)
        while True:
            page = await self.list_jobs(
                adapter, states=states, task_id=task_id, page_size=page_size, page_token=token, timeout=timeout
            )
            for item in page.items:
                yield item
            token = page.next_page_token
            if not token:
                return

    # -------------------------------------------------------------------------------------------- what is in force

    async def rollback(
        self,
        adapter: str = "",
        *,
        task_id: str = "",
        to_version: str = "",
        reason: str = "",
        actor: str = "",
        expected_active: str = "",
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> PointerMove:
        """Moves an adapter's pointer back; arguments as `AdapterClient.rollback`."""
        call = requests.rollback(
            adapter=adapter,
            task_id=task_id,
            to_version=to_version,
            reason=reason,
            actor=actor,
            expected_active=expected_active,
            request_id=request_id,
        )
        return await self._run(call, timeout)

    async def activate(
        self,
        adapter: str,
        version: str,
        *,
        reason: str = "",
        actor: str = "",
        expected_active: str = "",
        allow_rejected: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> PointerMove:
        """Puts a version in force; `allow_rejected` also one that the gate rejected. Arguments as `rollback`."""
        call = requests.activate(
            adapter=adapter,
            version=version,
            reason=reason,
            actor=actor,
            expected_active=expected_active,
            allow_rejected=allow_rejected,
            request_id=request_id,
        )
        return await self._run(call, timeout)

    async def delete_version(
        self, adapter: str, version: str, *, reason: str = "", actor: str = "", timeout: float | None = None
    ) -> DeletedVersion:
        """Deletes the files of a version that is not in force; its scores and lineage stay in the lists."""
        return await self._run(requests.delete_version(adapter, version, reason=reason, actor=actor), timeout)

    # ---------------------------------------------------------------------------------------------------- using

    async def report(self, adapter: str = "", version: str = "", *, timeout: float | None = None) -> Report:
        """How a version did on each row that its gate asked about, with the rows' texts.

        Args:
            adapter: The adapter. Default: user_feedback.
            version: `v3`; empty: what is in force.
            timeout: Seconds for each page. Default: the client's.
        """
        found, token = await self._run(requests.report(adapter=adapter, version=version), timeout)
        while token:
            page, token = await self._run(requests.report(adapter=adapter, version=version, page_token=token), timeout)
            if page.version.name != found.version.name:
                # Another version came in force between two pages.
                return await self.report(adapter, version, timeout=timeout)
            found = replace(found, rows=(*found.rows, *page.rows))
        return found

    async def classify(
        self,
        pairs: Iterable[requests.PairLike],
        *,
        adapter: str = "",
        version: str = "",
        base_model: str = "",
        timeout: float | None = None,
    ) -> Classifications:
        """Labels 1 to 256 pairs (`Pair`, mappings or tuples) with a version, the one in force, or `base`."""
        call = requests.classify(pairs, adapter=adapter, version=version, base_model=base_model)
        return await self._run(call, timeout)
