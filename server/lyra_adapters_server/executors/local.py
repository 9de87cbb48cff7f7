"""Runs work in a spawned process on this machine that keeps the base models warm; starts it again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import sys
from collections.abc import AsyncGenerator, Callable

import structlog

from lyra_adapters_server.executors.base import Suspended, WorkerDied, WorkFailed
from lyra_adapters_server.executors.death import describe_death
from lyra_adapters_server.executors.watch import HangLimits, HangWatch
from lyra_adapters_server.trainer.events import OF_ITSELF, REPLY, Alive, BaseChanged, Reply, Scored, TrainerEvent
from lyra_adapters_server.trainer.spec import (
    SUSPENDED,
    CancelSpec,
    ClassifySpec,
    FormatSpec,
    Method,
    Request,
    ScoreSpec,
    SuspendSpec,
    TrainSpec,
    WorkerConfig,
)
from lyra_adapters_server.types import BaseCard, BaseState, Value

log = structlog.get_logger()

# A reply line holds at most the probabilities of a request's rows.
LINE_LIMIT = 64 * 1024 * 1024
RESTART_PAUSE_S = (0.5, 30.0)
# How long a worker may take to end once its server lets go of it.
STOP_S = 3.0

# Work's end in a request's queue: None ended well, an exception otherwise.
Item = TrainerEvent | Exception | None


class LocalWorker:
    """The worker process and the requests under way in it.

    One socket pair carries JSON lines both ways; replies are told apart by request id, so that any number of
    requests can be under way at once.
    """

    def __init__(self, config: WorkerConfig, limits: HangLimits) -> None:
        self._config = config
        self._limits = limits
        self._ids = itertools.count(1)
        self._queues: dict[int, asyncio.Queue[Item]] = {}
        # Of the trainings under way: the request of each job.
        self._trainings: dict[str, int] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._watch: HangWatch | None = None
        self._up = asyncio.Event()
        self._cards: dict[str, BaseCard] = {}
        # As this worker has told; a new one begins anew.
        self._states: dict[str, BaseChanged] = {}
        self._ready: list[Callable[[], None]] = []
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The worker's process id, while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Starts the worker and keeps it running until stop()."""
        self._keeper = asyncio.create_task(self._keep_running(), name="worker-keeper")

    async def stop(self) -> None:
        """Ends the worker; work under way sees WorkerDied."""
        if self._keeper:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper

    def card(self, alias: str) -> BaseCard | None:
        """What is known of a base model; None until it has been described."""
        return self._cards.get(alias)

    def base_state(self, alias: str) -> BaseState:
        """Whether a base model's weights are in memory."""
        if told := self._states.get(alias):
            return told.state
        return BaseState.UNLOADED if alias in self._cards else BaseState.LOADING

    def load_error(self, alias: str) -> str:
        """Why a base model could not be described or loaded at the last try; empty if it could, or none has ended."""
        told = self._states.get(alias)
        return told.error if told else ""

    def on_ready(self, call: Callable[[], None]) -> None:
        """Calls back whenever a base model has become ready."""
        self._ready.append(call)

    async def train(self, spec: TrainSpec) -> AsyncGenerator[TrainerEvent, None]:
        """Yields the events of a training; closing the iterator stops the work.

        Raises WorkerDied, WorkFailed, Suspended.
        """
        async with contextlib.aclosing(self._run("train", spec, spec.job_id)) as events:
            async for event in events:
                yield event

    async def suspend(self, job_id: str) -> bool:
        """Asks a training to write a checkpoint and end with Suspended; False if none of that job runs."""
        target = self._trainings.get(job_id)
        if target is None:
            return False
        try:
            await self._send(next(self._ids), "suspend", SuspendSpec(target=target))
        except WorkerDied:
            return False
        return True

    def kill(self) -> None:
        """Ends the worker at once, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def score(self, spec: ScoreSpec) -> Scored:
        """Scores rows. Raises WorkerDied, WorkFailed."""
        return await self._scored("score", spec)

    async def classify(self, spec: ClassifySpec) -> Scored:
        """Gives probabilities of pairs. Raises WorkerDied, WorkFailed."""
        return await self._scored("classify", spec)

    async def make_format(self, spec: FormatSpec) -> None:
        """Makes a version's files in another form. Raises WorkerDied, WorkFailed."""
        async with contextlib.aclosing(self._run("make_format", spec)) as events:
            async for _ in events:
                pass

    async def _scored(self, method: Method, spec: Value) -> Scored:
        scored: Scored | None = None
        async with contextlib.aclosing(self._run(method, spec)) as events:
            async for event in events:
                if isinstance(event, Scored):
                    scored = event
        if scored is None:
            raise WorkFailed("NO_RESULT", "the worker ended the request without scores")
        return scored

    async def _run(self, method: Method, params: Value, job_id: str = "") -> AsyncGenerator[TrainerEvent, None]:
        await self._up.wait()
        if not self._queues and self._watch is not None:
            self._watch.sign()
        request_id = next(self._ids)
        if job_id:
            self._trainings[job_id] = request_id
        queue: asyncio.Queue[Item] = asyncio.Queue()
        self._queues[request_id] = queue
        ended = False
        try:
            await self._send(request_id, method, params)
            while True:
                item = await queue.get()
                if item is None or isinstance(item, Exception):
                    ended = True
                    if item is not None:
                        raise item
                    return
                yield item
        finally:
            if not ended:
                # The caller has lost interest. The worker's answer goes nowhere; a dead worker needs no telling.
                with contextlib.suppress(WorkerDied):
                    await self._send(next(self._ids), "cancel", CancelSpec(target=request_id))
            del self._queues[request_id]
            if job_id:
                self._trainings.pop(job_id, None)

    async def _send(self, request_id: int, method: Method, params: Value) -> None:
        line = Request(id=request_id, method=method, params=params.model_dump(mode="json")).model_dump_json()
        if self._writer is None:
            raise WorkerDied("the trainer process is being restarted")
        try:
            self._writer.write(line.encode() + b"\n")
            await self._writer.drain()
        except ConnectionError as error:
            raise WorkerDied("the trainer process has ended") from error

    async def _keep_running(self) -> None:
        pause = RESTART_PAUSE_S[0]
        while True:
            begun = asyncio.get_running_loop().time()
            code = await self._run_once()
            lived = asyncio.get_running_loop().time() - begun
            pause = RESTART_PAUSE_S[0] if lived > 60 else min(pause * 2, RESTART_PAUSE_S[1])
            log.warning("worker_died", exit_code=code, lived_s=round(lived, 1), restart_in_s=pause)
            await asyncio.sleep(pause)

    async def _run_once(self) -> int | None:
        """Starts a worker and reads replies until it ends; returns its exit status."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "lyra_adapters_server.trainer.worker", "--fd", str(theirs.fileno())),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                # A signal meant for the server's terminal must not reach the worker: the server decides when it ends.
                start_new_session=True,
            )
        reader, writer = await asyncio.open_connection(sock=ours, limit=LINE_LIMIT)
        self._process, self._writer = process, writer
        self._watch = watch = HangWatch(self._limits)
        silent_s: float | None = None
        try:
            writer.write(self._config.model_dump_json().encode() + b"\n")
            log.info("worker_started", pid=process.pid)
            self._up.set()
            silent_s = await self._until_over(reader, watch)
            if silent_s is not None:
                log.error("worker_hangs", pid=process.pid, silent_s=round(silent_s, 1))
                process.kill()
        finally:
            self._up.clear()
            self._writer = self._watch = None
            self._states.clear()
            writer.close()
            await asyncio.shield(_end(process))
            self._process = None
            how = describe_death(process.returncode, silent_s)
            for queue in self._queues.values():
                queue.put_nowait(WorkerDied(how))
        return process.returncode

    async def _until_over(self, reader: asyncio.StreamReader, watch: HangWatch) -> float | None:
        """Reads replies until the worker has closed its end; or returns for how long it has been silent."""
        reading = asyncio.create_task(self._read(reader))
        hanging = asyncio.create_task(watch.overdue(self._is_busy, self._is_loading))
        try:
            await asyncio.wait({reading, hanging}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                return hanging.result()
            reading.result()
            return None
        finally:
            reading.cancel()
            hanging.cancel()
            await asyncio.wait({reading, hanging})

    def _is_starting(self) -> bool:
        return len(self._states) < len(self._config.bases)

    def _is_busy(self) -> bool:
        return bool(self._queues) or self._is_starting()

    def _is_loading(self) -> bool:
        return self._is_starting() or any(told.state == BaseState.LOADING for told in self._states.values())

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                reply: Reply = REPLY.validate_json(line)
                if self._watch is not None:
                    self._watch.sign()
                if reply.id == OF_ITSELF:
                    self._note(reply)
                    continue
                queue = self._queues.get(reply.id)
                if queue is None:
                    continue
                if reply.event is not None:
                    queue.put_nowait(reply.event)
                if reply.error is not None and reply.error.reason == SUSPENDED:
                    queue.put_nowait(Suspended(reply.error.message))
                elif reply.error is not None:
                    queue.put_nowait(WorkFailed(reply.error.reason, reply.error.message))
                elif reply.done:
                    queue.put_nowait(None)

    def _note(self, reply: Reply) -> None:
        """Takes in what the worker tells of itself: how its base models fare."""
        change = reply.event
        if isinstance(change, Alive):
            return
        if not isinstance(change, BaseChanged):
            if reply.error is not None:
                log.error("worker_start_failed", reason=reply.error.reason, message=reply.error.message)
            return
        before = self._states.get(change.alias)
        self._states[change.alias] = change
        if change.card is not None:
            self._cards[change.alias] = change.card
        if change.state == BaseState.READY:
            log.info("base_loaded", alias=change.alias)
            for call in self._ready:
                call()
        elif change.state == BaseState.UNLOADED and change.card is not None:
            known = before is not None and before.card is not None
            what = "base_let_go" if known else "base_described"
            log.info(what, alias=change.alias, architecture=change.card.architecture)
        elif change.state == BaseState.FAILED:
            log.error("base_failed", alias=change.alias, message=change.error)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Waits for a worker that has lost its socket to end by itself, then kills it."""
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
