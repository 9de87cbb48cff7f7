"""The fake server: a port, what it was asked, and what a test told it to do."""

from __future__ import annotations

import threading
import uuid
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc

from lyra_adapters.models import AdapterVersion, Event, PointerChangeKind, Published, Succeeded
from lyra_adapters.testing.fault import Fault
from lyra_adapters.testing.jobs import ScriptedJob
from lyra_adapters.testing.pointers import Pointers
from lyra_adapters.testing.script import training_script
from lyra_adapters.testing.servicer import FakeServicer
from lyra_adapters.v1 import adapter_service_pb2 as pb
from lyra_adapters.v1.adapter_service_pb2_grpc import add_AdapterServiceServicer_to_server

RPCS = frozenset(pb.DESCRIPTOR.services_by_name["AdapterService"].methods_by_name)


@dataclass(frozen=True, slots=True)
class Received:
    """One call that arrived: the RPC's name, its request, and its metadata."""

    rpc: str
    request: Any
    metadata: dict[str, str]


class FakeAdapterServer:
    """A scriptable server for tests; a context manager.

    It keeps jobs, versions and pointers in memory and answers like the real one, except where it is told otherwise::

        with FakeAdapterServer() as fake:
            fake.script(training_script(steps=10), break_after=[3])
            with AdapterClient(fake.target) as client:
                version = client.train(samples).result()

    Args:
        port: Port on 127.0.0.1. Default: a free one.
        credentials: Serve over TLS with these. Default: without.
    """

    def __init__(self, *, port: int = 0, credentials: grpc.ServerCredentials | None = None) -> None:
        self.received: list[Received] = []
        self.jobs: dict[str, ScriptedJob] = {}
        self.versions: list[AdapterVersion] = []
        self.pointers = Pointers()
        # What Download sends: path and bytes of each file, by the full name of the version.
        self.files: dict[str, dict[str, bytes]] = {}
        # Digests to claim instead of the right ones, by path.
        self.digests: dict[str, str] = {}
        # After how many bytes each of the next downloads breaks.
        self.download_breaks: deque[int] = deque()
        self.reviews: dict[str, pb.Review] = {}
        # What Report says of every version.
        self.report_rows: list[pb.ReportRow] = []
        self.token: str | None = None
        self._port = port
        self._credentials = credentials
        self._lock = threading.RLock()
        self._scripts: deque[ScriptedJob] = deque()
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._answers: dict[str, Any] = {}
        self._server: grpc.Server | None = None

    # ------------------------------------------------------------------------------------------------ telling it

    def script(
        self,
        events: Iterable[Event] | None = None,
        *,
        job_id: str | None = None,
        break_after: Sequence[int] = (),
        hold_after: int | None = None,
        pause: float = 0.0,
        heartbeats: bool = False,
    ) -> ScriptedJob:
        """Says what the next Train that makes a new job will give.

        Args:
            events: The job's events. Default: `training_script()`.
            job_id: The job's id. Default: a new one.
            break_after: For each stream of the job, in order: break it with UNAVAILABLE after so many of its events;
                0 breaks it before any, when the job is already there; -1 lets it end.
            hold_after: Let no more than so many events happen until the job's `release` or a Cancel.
            pause: Seconds before each event of a stream.
            heartbeats: Send a heartbeat before each event.
        """
        job = ScriptedJob(
            job_id or str(uuid.uuid4()),
            training_script() if events is None else events,
            break_after=break_after,
            hold_after=hold_after,
            pause=pause,
            heartbeats=heartbeats,
        )
        self._scripts.append(job)
        return job

    def add_job(self, events: Iterable[Event] | None = None, **options: Any) -> ScriptedJob:
        """A job that exists without a Train; arguments as `script`."""
        job = self.script(events, **options)
        self._scripts.remove(job)
        self.jobs[job.job_id] = job
        self.settle(job)
        return job

    def fail_next(self, rpc: str, code: grpc.StatusCode, message: str = "", *, times: int = 1, **details: Any) -> None:
        """Lets the next calls of an RPC fail before they do anything; details as `Fault`."""
        self._known(rpc)
        self._faults[rpc].extend([Fault(code=code, message=message, **details)] * times)

    def answer(self, rpc: str, answer: Any) -> None:
        """Answers a unary RPC with a message, or with what a function makes of the request."""
        self._known(rpc)
        self._answers[rpc] = answer

    def requests(self, rpc: str) -> list[Any]:
        """The requests of an RPC that arrived, oldest first."""
        self._known(rpc)
        return [call.request for call in self.received if call.rpc == rpc]

    # ---------------------------------------------------------------------------------------------- running it

    @property
    def target(self) -> str:
        """Its address, for clients."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> Self:
        """Listens; again on the same port after `stop`."""
        server = grpc.server(
            ThreadPoolExecutor(max_workers=32, thread_name_prefix="fake-adapter-server"),
            # Without it a second server could take the same port unnoticed.
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 20 * 1024 * 1024)],
        )
        add_AdapterServiceServicer_to_server(FakeServicer(self), server)
        address = f"127.0.0.1:{self._port}"
        if self._credentials is None:
            self._port = server.add_insecure_port(address)
        else:
            self._port = server.add_secure_port(address, self._credentials)
        server.start()
        self._server = server
        return self

    def stop(self) -> None:
        """Drops all connections and listens no more; jobs and versions are kept."""
        if self._server is not None:
            self._server.stop(grace=0).wait()
            self._server = None

    def restart(self) -> None:
        """Drops all connections, as a restart of the real server does."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # ------------------------------------------------------------------------------------- for the servicer

    def arrived(self, rpc: str, request: Any, context: grpc.ServicerContext) -> None:
        """Records a call, and ends it if it is to fail or has no right token."""
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        with self._lock:
            self.received.append(Received(rpc, request, metadata))
            fault = self._faults[rpc].popleft() if self._faults[rpc] else None
        if self.token is not None and metadata.get("authorization") != f"Bearer {self.token}":
            reason = "TOKEN_UNKNOWN" if "authorization" in metadata else "TOKEN_MISSING"
            Fault(code=grpc.StatusCode.UNAUTHENTICATED, message="Not the token.", reason=reason).abort(context)
        if fault is not None:
            fault.abort(context)

    def scripted_answer(self, rpc: str, request: Any) -> Any | None:
        """What a test wants as the answer, if it said so."""
        answer = self._answers.get(rpc)
        return answer(request) if callable(answer) else answer

    def job_for(self, request: Any) -> ScriptedJob:
        """The job of a Train: the one its request id already has, or the next script's."""
        with self._lock:
            for job in self.jobs.values():
                if request.request_id and job.request and job.request.request_id == request.request_id:
                    return job
            if not self._scripts:
                self.script(training_script(adapter=request.adapter or "user_feedback"))
            job = self._scripts.popleft()
            job.request = request
            self.jobs[job.job_id] = job
            self.settle(job)
            return job

    def settle(self, job: ScriptedJob) -> None:
        """Takes over what a job has published and activated so far."""
        with self._lock:
            for event in job.seen:
                if isinstance(event.event, Published) and event.event.version is not None:
                    if event.event.version.name not in (version.name for version in self.versions):
                        self.versions.append(event.event.version)
                elif isinstance(event.event, Succeeded) and event.event.activated:
                    adapter = event.event.version.rpartition("_v")[0]
                    past = self.pointers.history(adapter)
                    if job.job_id not in (change.job_id for change in past):
                        self.pointers.move(adapter, event.event.version, PointerChangeKind.PUBLISHED, job_id=job.job_id)

    def _known(self, rpc: str) -> None:
        if rpc not in RPCS:
            raise ValueError(f"There is no RPC {rpc}; there are {', '.join(sorted(RPCS))}.")
