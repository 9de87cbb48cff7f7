"""The synchronous client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from lyra_adapters import requests
from lyra_adapters.feedback_calls import FeedbackCalls
from lyra_adapters.models.report import Report
from lyra_adapters.models.service import Classifications, Job, JobState, ServiceStatus
from lyra_adapters.models.training import Activation, ConflictPolicy
from lyra_adapters.models.versions import AdapterVersion, DeletedVersion, Page, PointerMove, VersionState
from lyra_adapters.serving_calls import ServingCalls
from lyra_adapters.streams import EventStream
from lyra_adapters.v1 import adapter_service_pb2 as pb


class AdapterClient(FeedbackCalls, ServingCalls):
    """Speaks to one server; safe to share between threads; a context manager.

    Every method raises an `AdapterError` of the kind that fits the server's status. Each takes `timeout` in seconds:
    None is the client's `timeout` for unary calls, and no limit for streams. `Transport` says what the constructor
    takes: the server's address, a token, TLS, the default timeout, and how broken streams are taken up again.
    """

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
    ) -> EventStream:
        """Starts a training job and streams its events, each once, also over broken connections.

        The job is the server's as soon as the first event is here; leaving the stream cancels nothing.

        Args:
            samples: The rows, as `Sample` or as mappings with its fields (`label` is read as `correct_label`; labels
                in any case). Either this or `feedback`.
            adapter: The adapter's name. Default `user_feedback`.
            task_id: The caller's task; `rollback` can name it.
            actor: Who asks.
            domain: The domain of the rows; a new one makes training due.
            feedback: Train on recorded feedback: True for all, or a `FeedbackSource`.
            base_model: Alias or id. Default: the server's first.
            lora: `LoraConfig` or a mapping; unset fields take the server's defaults.
            training: `TrainingConfig` or a mapping; likewise.
            trigger: `TriggerPolicy` or a mapping; likewise.
            activation: When the version goes in force. Default GATED.
            continue_from: Full name of the version to start from.
            conflicts: What to do about contradicting labels. Default REFUSE.
            request_id: A UUID that makes repeating this call return the same job. Default: a new one.
            heartbeats: Also yield heartbeats (sequence 0).
            timeout: Seconds for the whole stream. Default: none.

        Raises:
            InvalidArgument: At once for what the client can see; from iterating for what the server refuses.
            NotDue: From iterating: training is not due.
        """
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
    ) -> EventStream:
        """The events of a job after `after_sequence`, to its end, during and after the job."""
        request = pb.WatchRequest(job_id=job_id, after_sequence=after_sequence)
        return self._events(request, requests.new_request_id(), heartbeats, timeout)

    def wait(self, job_id: str, *, timeout: float | None = None) -> AdapterVersion:
        """Waits for the end of a job and returns its version as it stood then.

        Raises:
            TrainingFailed: The job failed.
            TrainingCancelled: The job was cancelled.
        """
        with self.watch(job_id, timeout=timeout) as stream:
            return stream.result()

    def cancel(self, job_id: str, *, actor: str = "", reason: str = "", timeout: float | None = None) -> Job:
        """Stops a queued or running job; its partial work is not published."""
        return self._run(requests.cancel(job_id, actor=actor, reason=reason), timeout)

    # ------------------------------------------------------------------------------------------------- looking

    def status(self, *, timeout: float | None = None) -> ServiceStatus:
        """The state of the service."""
        return self._run(requests.status(), timeout)

    def job(self, job_id: str, *, timeout: float | None = None) -> Job:
        """The state of one job."""
        return self._run(requests.job(job_id), timeout)

    def list(
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
        return self._run(call, timeout)

    def versions(
        self,
        adapter: str = "",
        *,
        states: Iterable[VersionState | str] = (),
        task_id: str = "",
        page_size: int = 0,
        timeout: float | None = None,
    ) -> Iterator[AdapterVersion]:
        """All versions, newest first, page after page; `timeout` is for each page."""
        token, states = "", tuple(states)
        while True:
            page = self.list(
                adapter, states=states, task_id=task_id, page_size=page_size, page_token=token, timeout=timeout
            )
            yield from page.items
            token = page.next_page_token
            if not token:
                return

    def list_jobs(
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
        return self._run(call, timeout)

    def jobs(
        self,
        adapter: str = "",
        *,
        states: Iterable[JobState | str] = (),
        task_id: str = "",
        page_size: int = 0,
        timeout: float | None = None,
    ) -> Iterator[Job]:
        """All jobs, newest first, page after page; `timeout` is for each page."""
        token, states = "", tuple(states)
        while True:
            page = self.list_jobs(
                adapter, states=states, task_id=task_id, page_size=page_size, page_token=token, timeout=timeout
            )
            yield from page.items
            token = page.next_page_token
            if not token:
                return

    # -------------------------------------------------------------------------------------------- what is in force

    def rollback(
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
        """Moves an adapter's pointer back: one step, to a version that was in force, or to `base`.

        Args:
            adapter: The adapter. Either this or `task_id`.
            task_id: The adapter that this task trained.
            to_version: `v2`, `base`, or empty for one step back.
            reason: Why; kept with the change.
            actor: Who asks; kept with the change.
            expected_active: What must be in force; empty: not checked.
            request_id: A UUID that makes repeating this call harmless. Default: a new one.
            timeout: Seconds. Default: the client's.
        """
        call = requests.rollback(
            adapter=adapter,
            task_id=task_id,
            to_version=to_version,
            reason=reason,
            actor=actor,
            expected_active=expected_active,
            request_id=request_id,
        )
        return self._run(call, timeout)

    def activate(
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
        return self._run(call, timeout)

    def delete_version(
        self, adapter: str, version: str, *, reason: str = "", actor: str = "", timeout: float | None = None
    ) -> DeletedVersion:
        """Deletes the files of a version that is not in force; its scores and lineage stay in the lists."""
        return self._run(requests.delete_version(adapter, version, reason=reason, actor=actor), timeout)

    # ---------------------------------------------------------------------------------------------------- using

    def report(self, adapter: str = "", version: str = "", *, timeout: float | None = None) -> Report:
        """How a version did on each row that its gate asked about, with the rows' texts.

        Args:
            adapter: The adapter. Default: user_feedback.
            version: `v3`; empty: what is in force.
            timeout: Seconds for each page. Default: the client's.
        """
        found, token = self._run(requests.report(adapter=adapter, version=version), timeout)
        while token:
            page, token = self._run(requests.report(adapter=adapter, version=version, page_token=token), timeout)
            if page.version.name != found.version.name:
                # Another version came in force between two pages.
                return self.report(adapter, version, timeout=timeout)
            found = replace(found, rows=(*found.rows, *page.rows))
        return found

    def classify(
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
        return self._run(call, timeout)
