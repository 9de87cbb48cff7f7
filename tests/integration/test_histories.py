"""Random histories of trainings, activations, rollbacks, cancellations and restarts, checked against a model.

The model knows what was promised and nothing of how it is kept: what is in force under a name is the top of a stack;
putting a version in force pushes, stepping back pops. The server is real but for its trainer (quick_server.py), and so
are its ends: SIGTERM and SIGKILL.
"""

from __future__ import annotations

import itertools
import json
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from lyra_adapters.v1 import adapter_service_pb2 as pb
from quick_server import COMMAND, Script, seed
from server_process import ServerProcess
from train_requests import train_request

NAMES = ("left", "right")
GATED, MANUAL, ALWAYS = pb.ACTIVATION_GATED, pb.ACTIVATION_MANUAL, pb.ACTIVATION_ALWAYS
# Mostly the first, so that its history grows long.
SOME_NAME = st.sampled_from([0, 0, 0, 1])
STATES = {
    "ACTIVE": pb.VERSION_STATE_ACTIVE,
    "RETIRED": pb.VERSION_STATE_RETIRED,
    "REJECTED": pb.VERSION_STATE_REJECTED,
    "CANDIDATE": pb.VERSION_STATE_CANDIDATE,
}
PASSES = (pb.VERDICT_OUTCOME_BETTER, pb.VERDICT_OUTCOME_NOT_WORSE)
outcomes: Counter[str] = Counter()
examples, steps_done = itertools.count(), itertools.count()


@dataclass
class Name:
    """What the model knows of an adapter's name."""

    stack: list[int] = field(default_factory=list)
    versions: int = 0
    been_in_force: set[int] = field(default_factory=set)
    rejected: set[int] = field(default_factory=set)
    revision: int = 0

    @property
    def active(self) -> int | None:
        return self.stack[-1] if self.stack else None

    def moved(self) -> None:
        self.revision += 1
        if self.stack:
            self.been_in_force.add(self.stack[-1])

    def published(self, activation: int, outcome: int) -> None:
        """A training ended with a version and the gate's verdict, which other tests look into."""
        number = self.versions = self.versions + 1
        if outcome == pb.VERDICT_OUTCOME_WORSE:
            self.rejected.add(number)
        if activation == ALWAYS or (activation == GATED and outcome in PASSES):
            self.stack.append(number)
            self.moved()

    def state(self, number: int) -> str:
        if number == self.active:
            return "ACTIVE"
        if number in self.been_in_force:
            return "RETIRED"
        return "REJECTED" if number in self.rejected else "CANDIDATE"


@dataclass
class Job:
    """A job that has not ended."""

    job_id: str
    name: str
    activation: int
    script: Script


class Served:
    """The server that the histories share; it is started again on the same home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.start()

    def start(self) -> None:
        # A lease as short as it gets, and attempts enough for every restart.
        flags = ("--lease-s", "1", "--max-attempts", "100", "--log-level", "info")
        self.process = ServerProcess(self.home / "home", "none", self.home / "cache", *flags, command=COMMAND)
        self.stub = self.process.stub()

    def restart(self, how: signal.Signals) -> None:
        self.process.stop(how)
        self.start()


class Histories(RuleBasedStateMachine):
    """Each history has names of its own, so that one server serves all of them."""

    def __init__(self, served: Served, restarts: int) -> None:
        super().__init__()
        self.served = served
        self.restarts_left = restarts

    @initialize()
    def begin(self) -> None:
        number = next(examples)
        self.names = {f"{name}{number}": Name() for name in NAMES}
        # The first is in the trainer and stays there; the others wait.
        self.jobs: list[Job] = []
        self.ended: dict[str, tuple[str, list[bytes]]] = {}
        self.requests: list[tuple[pb.ActivateRequest | pb.RollbackRequest, pb.PointerChange]] = []
        for name in self.names:
            # Known from the start, so that rollbacks have a name to ask about.
            self.train_now(name, 500, ALWAYS, Script.ENDS)

    # ------------------------------------------------------------------------------------------------------ trainings

    @rule(
        name=SOME_NAME,
        quality=st.sampled_from([100, 300, 500, 700, 900]),
        activation=st.sampled_from([GATED, MANUAL, ALWAYS]),
        script=st.sampled_from([*[Script.ENDS] * 3, Script.STAYS, Script.FAILS]),
    )
    def train(self, name: int, quality: int, activation: int, script: Script) -> None:
        self.train_now(list(self.names)[name], quality, activation, script)

    def train_now(self, name: str, quality: int, activation: int, script: Script) -> None:
        request = train_request(name, 120, epochs=3, activation=activation, request_id=str(uuid.uuid4()))
        request.training.validation_fraction = 0.5
        for sample in request.samples:
            # Rows that no model's errors chose, so that the gate has something to go by.
            sample.ClearField("original_label")
        request.training.seed = seed(quality, script)
        stream = self.served.stub.Train(request)
        job_id = next(stream).job_id
        # The same call again is the same job.
        again = self.served.stub.Train(request)
        assert next(again).job_id == job_id
        again.cancel()
        stream.cancel()
        self.jobs.append(Job(job_id, name, activation, script))
        self.drain()

    def drain(self) -> None:
        """Waits for the jobs that the model says will end, in order."""
        while self.jobs and self.jobs[0].script is not Script.STAYS:
            job = self.jobs.pop(0)
            if job.script is Script.FAILS:
                self.check_ended(job.job_id, "failed")
            else:
                outcome = self.check_ended(job.job_id, "succeeded")[-2].verdict.outcome
                outcomes[pb.VerdictOutcome.Name(outcome)] += 1
                self.names[job.name].published(job.activation, outcome)
        if self.jobs:
            self.served.process.wait_for_state(self.jobs[0].job_id, "RUNNING")

    def check_ended(self, job_id: str, kind: str) -> list[pb.TrainEvent]:
        """Its events are gapless and end as they should; what they are is remembered."""
        events = [event for event in self.served.stub.Watch(pb.WatchRequest(job_id=job_id)) if event.sequence]
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert events[-1].WhichOneof("event") == kind
        self.ended[job_id] = (kind, [event.SerializeToString(deterministic=True) for event in events])
        return events

    @precondition(lambda self: self.jobs)
    @rule(which=st.integers(0, 20))
    def cancel(self, which: int) -> None:
        job = self.jobs.pop(which % len(self.jobs))
        self.served.stub.Cancel(pb.CancelRequest(job_id=job.job_id, actor="ada"))
        self.check_ended(job.job_id, "cancelled")
        assert self.refused("Cancel", pb.CancelRequest(job_id=job.job_id)) == "JOB_FINISHED"
        self.drain()

    # -------------------------------------------------------------------------------------------------------- pointers

    @rule(name=SOME_NAME, version=st.integers(0, 5), allow=st.booleans(), expected=st.integers(0, 9))
    def activate(self, name: int, version: int, allow: bool, expected: int) -> None:
        adapter, known = list(self.names.items())[name]
        request = pb.ActivateRequest(adapter=adapter, version=f"v{version}", allow_rejected=allow)
        request.request_id = str(uuid.uuid4())
        right = self.expect(request, known, expected)
        if not right:
            assert self.refused("Activate", request) == "ACTIVE_CHANGED"
        elif not 1 <= version <= known.versions:
            assert self.refused("Activate", request) == "VERSION_NOT_FOUND"
        elif known.state(version) == "REJECTED" and not allow:
            assert self.refused("Activate", request) == "VERSION_REJECTED"
        else:
            answer = self.served.stub.Activate(request)
            assert answer.changed == (version != known.active)
            if answer.changed:
                known.stack.append(version)
                known.moved()
                self.requests.append((request, answer.change))

    @rule(
        name=SOME_NAME,
        to=st.sampled_from([""] * 8 + ["base", "v1", "v2", "v3", "v4", "v9"]),
        expected=st.integers(0, 9),
    )
    def rollback(self, name: int, to: str, expected: int) -> None:
        adapter, known = list(self.names.items())[name]
        request = pb.RollbackRequest(adapter=adapter, to_version=to, request_id=str(uuid.uuid4()), actor="ada")
        number = int(to[1:]) if to.startswith("v") else None
        if not self.expect(request, known, expected):
            assert self.refused("Rollback", request) == "ACTIVE_CHANGED"
            return
        if to == "" and not known.stack:
            assert self.refused("Rollback", request) == "NOTHING_TO_ROLL_BACK"
            return
        if number and number > known.versions:
            assert self.refused("Rollback", request) == "VERSION_NOT_FOUND"
            return
        if number and number not in known.been_in_force:
            assert self.refused("Rollback", request) == "NEVER_IN_FORCE"
            return
        before = known.active
        if to == "":
            known.stack.pop()
        elif to == "base":
            known.stack.clear()
        elif number in known.stack:
            while known.active != number:
                known.stack.pop()
        else:
            known.stack.append(number)
        answer = self.served.stub.Rollback(request)
        assert answer.changed == (known.active != before)
        if answer.changed:
            known.moved()
            self.requests.append((request, answer.change))

    def expect(self, request: pb.ActivateRequest | pb.RollbackRequest, known: Name, expected: int) -> bool:
        """Sometimes says what should be in force; returns whether that is so."""
        if expected < 2:
            request.expected_active = f"v{known.active}" if known.active else "base"
        elif expected == 2:
            request.expected_active = f"v{(known.active or 0) + 1}"
        return expected != 2

    @rule(which=st.integers(0, 50))
    def repeat(self, which: int) -> None:
        """A retry gets the first answer and changes nothing; its id with other content is refused."""
        # No precondition: whether there is one depends on verdicts, and what is drawn must not.
        if not self.requests:
            return
        request, change = self.requests[which % len(self.requests)]
        rpc = "Activate" if isinstance(request, pb.ActivateRequest) else "Rollback"
        answer = getattr(self.served.stub, rpc)(request)
        assert answer.change == change
        assert not answer.changed
        other = type(request)()
        other.CopyFrom(request)
        other.reason = "another"
        assert self.refused(rpc, other) == "REQUEST_ID_REUSED"

    def refused(self, rpc: str, request: object) -> str:
        with pytest.raises(grpc.RpcError) as error:
            getattr(self.served.stub, rpc)(request)
        info = error_details_pb2.ErrorInfo()
        rpc_status.from_call(error.value).details[0].Unpack(info)
        return str(info.reason)

    # -------------------------------------------------------------------------------------------------------- restarts

    @precondition(lambda self: self.restarts_left)
    @rule(how=st.sampled_from([signal.SIGTERM, signal.SIGKILL]))
    def restart(self, how: signal.Signals) -> None:
        self.restarts_left -= 1
        self.served.restart(how)
        self.drain()
        for job_id, (kind, events) in list(self.ended.items()):
            self.check_ended(job_id, kind)
            assert self.ended[job_id][1] == events

    # ------------------------------------------------------------------------------------------------------ invariants

    @invariant()
    def registry_is_as_the_model_says(self) -> None:
        if not hasattr(self, "names"):
            return
        next(steps_done)
        stub, home = self.served.stub, self.served.process.home
        pointers = {adapter.adapter: adapter for adapter in stub.Status(pb.StatusRequest()).service.adapters}
        for adapter, known in self.names.items():
            listed = stub.List(pb.ListRequest(adapter=adapter, include_history=True))
            states = {int(version.version[1:]): version.state for version in listed.versions}
            assert states == {number: STATES[known.state(number)] for number in range(1, known.versions + 1)}
            active = f"{adapter}_v{known.active}" if known.active else "base"
            assert (pointers[adapter].active, pointers[adapter].pointer_revision) == (active, known.revision)
            assert [change.pointer_revision for change in listed.history] == list(range(known.revision, 0, -1))
            link = home / adapter
            assert (link.readlink().name if link.is_symlink() else "base") == active
            words = json.loads((home / f"{adapter}.json").read_text())
            assert words["pointer_revision"] == known.revision
        live = {job.job_id for job in self.jobs}
        states = [pb.JOB_STATE_QUEUED, pb.JOB_STATE_RUNNING]
        assert {job.job_id for job in stub.ListJobs(pb.ListJobsRequest(states=states)).jobs} == live

    def teardown(self) -> None:
        while getattr(self, "jobs", None):
            self.cancel(0)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    server = Served(tmp_path_factory.mktemp("histories"))
    yield server
    server.process.stop()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("histories", "steps", "restarts"), [(8, 30, 1), pytest.param(60, 80, 4, marks=pytest.mark.slow)]
)
def test_random_histories_are_as_the_model_says(served: Served, histories: int, steps: int, restarts: int) -> None:
    begun = time.monotonic()
    run_state_machine_as_test(
        lambda: Histories(served, restarts),
        settings=settings(
            max_examples=histories,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            # What fails is found, not made shorter: each try costs seconds.
            phases=[Phase.generate],
        ),
    )
    print(f"{next(examples)} histories, {next(steps_done)} steps in {time.monotonic() - begun:.0f} s; {dict(outcomes)}")
    assert not served.process.logged("job_broke")
    assert not served.process.logged("rpc_broke")
