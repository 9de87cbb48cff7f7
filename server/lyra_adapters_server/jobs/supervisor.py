"""Carries jobs out, one at a time: claims, trains, publishes, closes; and takes up what a crash left."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Connection

from lyra_adapters_server.executors.base import Executor, Suspended, WorkerDied, WorkFailed
from lyra_adapters_server.feedback.general import GeneralRows
from lyra_adapters_server.feedback.inner import inner_folds
from lyra_adapters_server.feedback.replay import replay_rows
from lyra_adapters_server.jobs.champion import find_champion, version_ref
from lyra_adapters_server.jobs.forewarning import forewarnings
from lyra_adapters_server.jobs.formats import FormatMaker
from lyra_adapters_server.jobs.full_disk import NO_SPACE, write_when_possible
from lyra_adapters_server.jobs.judging import Judging
from lyra_adapters_server.jobs.log import EventLog
from lyra_adapters_server.jobs.payloads import event_payload
from lyra_adapters_server.jobs.publication import CancelledByCaller, Publisher
from lyra_adapters_server.jobs.resuming import (
    CHECKPOINTS,
    STOPPED,
    attempt_directory,
    begun,
    clear_work,
    given_up,
    stored_plan,
)
from lyra_adapters_server.jobs.seen import contents_seen, positions_seen
from lyra_adapters_server.logs import without_text
from lyra_adapters_server.registry.anchor import picked_out
from lyra_adapters_server.registry.describe import version_payload
from lyra_adapters_server.registry.layout import Layout
from lyra_adapters_server.registry.names import parse_full_name
from lyra_adapters_server.registry.repair import expire_leases_of_the_dead
from lyra_adapters_server.storage import jobs as store
from lyra_adapters_server.storage.database import Database, now_us
from lyra_adapters_server.storage.jobs import JobRecord, JobState, LeaseLost
from lyra_adapters_server.storage.trouble import DISK_FULL, StorageFailed, storage_trouble
from lyra_adapters_server.storage.versions import VersionRecord, version_of_job
from lyra_adapters_server.trainer.events import Trained, TrainerWarning, TrainingProgress, TrainingStarted
from lyra_adapters_server.trainer.spec import CheckpointRules, TrainSpec
from lyra_adapters_server.types import LoraConfig, Sample, TrainingConfig

logger = structlog.get_logger()

# How soon a job of a server that died, or one that another server accepted, is noticed.
POLL_S = 1.0

HALF_PUBLISHED = "the server had ended while it published the trained adapter, which is whole"

# How long a trainer may take to put a job aside: to end its micro-batch and to write a checkpoint.
SUSPEND_S = 6.0
# How long stopping may take in all; what is not over by then is broken off.
STOP_S = 8.0


@dataclass(frozen=True)
class Rules:
    """The settings that concern carrying jobs out."""

    max_attempts: int
    lease_s: float
    progress_interval_s: float
    # A checkpoint every so many steps, and seconds; 0: not by that.
    checkpoint_steps: int
    checkpoint_seconds: float


class Supervisor:
    """Carries out the jobs of a registry in the order of their acceptance."""

    def __init__(
        self,
        database: Database,
        log: EventLog,
        executor: Executor,
        layout: Layout,
        rules: Rules,
        formats: FormatMaker,
        owner: str,
        general: Mapping[str, GeneralRows],
    ) -> None:
        self._database = database
        self._log = log
        self._executor = executor
        self._layout = layout
        self._rules = rules
        self._general = general
        self._publisher = Publisher(database, layout, executor, Judging(executor, general))
        # The name under which it holds leases.
        self._owner = owner
        self._formats = formats
        self._wake = asyncio.Event()
        self._cancelling: dict[str, asyncio.Event] = {}
        self._stopping = asyncio.Event()
        self._tidying: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts carrying out jobs."""
        self._loop = asyncio.create_task(self._run(), name="supervisor")

    async def stop(self) -> None:
        """Stops within STOP_S; a job under way writes a checkpoint and is left for the next start to go on with."""
        self._stopping.set()
        self._wake.set()
        if self._loop:
            await asyncio.wait({self._loop}, timeout=STOP_S)
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError, StorageFailed):
                await self._loop

    def wake(self) -> None:
        """Says that a job was accepted."""
        self._wake.set()

    def cancel(self, job_id: str) -> None:
        """Says that a job's cancellation was stored."""
        if event := self._cancelling.get(job_id):
            event.set()
        else:
            # One that waits, perhaps to go on after an interruption, is ended without us.
            tidying = asyncio.create_task(self._tidy(job_id))
            self._tidying.add(tidying)
            tidying.add_done_callback(self._tidying.discard)

    async def _run(self) -> None:
        trouble = ""
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                job = await self._database.write(self._claim, "lease.claim")
                trouble = ""
                if job is not None:
                    await self._carry_out(job)
                    continue
            except StorageFailed as error:
                # A job that was under way is claimed again once its lease has run out.
                if error.reason != trouble:
                    trouble = error.reason
                    logger.error("storage_failed", reason=error.reason, message=error.message)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()

    def _claim(self, connection: Connection) -> JobRecord | None:
        self._database.reserve.hold()
        now = now_us()
        expire_leases_of_the_dead(self._layout, connection)
        return store.claim(connection, self._owner, now, self._lease_end(now))

    async def _carry_out(self, job: JobRecord) -> None:
        """Brings a claimed job to its end, or gives it back so that it is tried again. Never raises but on stop."""
        log = logger.bind(job_id=job.job_id, adapter=job.adapter, attempt=job.attempt)
        cancelling = self._cancelling[job.job_id] = asyncio.Event()
        renewal = asyncio.create_task(self._renew(job))
        try:
            version = await self._database.read(lambda connection: version_of_job(connection, job.job_id))
            if version is not None:
                # Published by an earlier attempt that did not live to say so.
                await self._succeed(job, await self._publisher.link(job))
            elif job.cancel_requested:
                await self._cancelled(job)
            elif failure := given_up(job, self._rules.max_attempts):
                await self._fail(job, **failure)
            else:
                await self._train_and_publish(job, cancelling)
        except LeaseLost:
            log.warning("lease_lost")
        except CancelledByCaller:
            await self._cancelled(job)
        except WorkerDied as error:
            log.warning("job_interrupted", reason=str(error))
            await self._give_back(job, interrupted=True, reason=str(error))
        except Suspended:
            await self._give_back(job, interrupted=False, reason=STOPPED)
        except WorkFailed as error:
            await self._fail(job, error.reason, error.message)
        except StorageFailed as error:
            log.error("storage_failed", reason=error.reason)
            if error.reason == DISK_FULL:
                await self._fail(job, error.reason, NO_SPACE)
            else:
                await self._give_back(job, interrupted=True, reason=error.message)
                await asyncio.sleep(POLL_S)
        except asyncio.CancelledError:
            await self._give_back(job, interrupted=False, reason=STOPPED)
            raise
        except Exception as error:  # the supervisor must outlive whatever one job does
            log.error("job_broke", **without_text(error))
            await self._fail(
                job, "INTERNAL", f"The server met an unexpected {type(error).__name__}; its log has the details."
            )
        finally:
            renewal.cancel()
            del self._cancelling[job.job_id]
            await self._tidy(job.job_id, job.attempt)

    async def _tidy(self, job_id: str, attempt: int | None = None) -> None:
        """Removes what an attempt wrote, and all of its job's files if that has ended."""
        try:
            job = await self._database.read(lambda connection: store.find_job(connection, job_id))
            ended = job is None or job.finished
            await asyncio.to_thread(clear_work, self._layout.work(job_id), attempt, ended=ended)
        except (OSError, StorageFailed) as error:
            # A trainer may still be writing there; the next start removes what is left.
            logger.warning("work_left", job_id=job_id, reason=type(error).__name__)

    async def _train_and_publish(self, job: JobRecord, cancelling: asyncio.Event) -> None:
        spec = await self._prepare(job)
        half = await self._publisher.half_published(job)
        if half is not None:
            resumed = {"attempt": job.attempt, "step": half.prepared.trained.steps, "reason": HALF_PUBLISHED}
            await self._write(job, [("resumed", resumed)])
            await self._succeed(job, await self._publisher.finish(job, spec, half))
            return
        training = asyncio.create_task(self._train(job, spec))
        asked = asyncio.create_task(cancelling.wait())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({training, asked, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not training.done() and not asked.done() and await self._executor.suspend(job.job_id):
                await asyncio.wait({training}, timeout=SUSPEND_S)
            if not training.done():
                raise CancelledByCaller if asked.done() else Suspended
            trained = training.result()
        finally:
            asked.cancel()
            stopping.cancel()
            # Not awaited itself: that could not tell its cancellation from that of the supervisor, which must go on.
            training.cancel()
            await asyncio.wait({training})
        version = await self._publisher.publish(job, spec, trained)
        await self._succeed(job, version)

    async def _prepare(self, job: JobRecord) -> TrainSpec:
        work = attempt_directory(self._layout.work(job.job_id), job.attempt)
        with storage_trouble():
            work.mkdir(mode=0o700, parents=True)
        parent_name = parse_full_name(job.continue_from)
        champion, parent, contents, (training, held_out) = await self._database.read(
            lambda connection: (
                find_champion(connection, self._layout, job.adapter, job.base_model),
                version_ref(connection, self._layout, *parent_name) if parent_name else None,
                contents_seen(connection, job.continue_from),
                store.job_samples(connection, job.job_id),
            )
        )
        rows = [Sample.model_validate(row) for row in training]
        config = TrainingConfig.model_validate(job.training)
        # On a thread: documents of thousands of rows are found by their texts.
        inner = await asyncio.to_thread(lambda: inner_folds(rows, config, positions_seen(rows, contents)))
        general = self._general[job.base_model]
        return TrainSpec(
            job_id=job.job_id,
            base_alias=job.base_model,
            training_samples=tuple(rows),
            validation_samples=tuple(Sample.model_validate(row) for row in held_out),
            lora=LoraConfig.model_validate(job.lora),
            training=config,
            inner=inner,
            picked_out=picked_out(rows),
            replay_samples=replay_rows(rows, general) if config.replay_general_rows else (),
            champion=champion.ref,
            continue_from=parent,
            output_dir=str(work),
            progress_interval_s=self._rules.progress_interval_s,
            checkpoints=CheckpointRules(
                directory=str(self._layout.work(job.job_id) / CHECKPOINTS),
                steps=self._rules.checkpoint_steps,
                seconds=self._rules.checkpoint_seconds,
            ),
            plan=stored_plan(job),
        )

    async def _train(self, job: JobRecord, spec: TrainSpec) -> Trained:
        """Writes the trainer's events down until it has trained; returns the result."""
        result: Trained | None = None
        async with contextlib.aclosing(self._executor.train(spec)) as events:
            async for event in events:
                if isinstance(event, Trained):
                    result = event
                    continue
                changes: dict[str, Any] = {}
                if isinstance(event, TrainingStarted):
                    kind, payload, changes = begun(job, event)
                else:
                    kind, payload = event_payload(event)
                if isinstance(event, TrainingProgress):
                    changes = {"progress": payload}
                elif isinstance(event, TrainerWarning) and event.plan is not None:
                    changes = {"plan": event.plan.model_dump(mode="json")}
                written = [(kind, payload)]
                if kind == "started":
                    written += [("warning", warned) for warned in forewarnings(spec)]
                held = await self._write(job, written, **changes)
                if held.cancel_requested:
                    raise CancelledByCaller
        if result is None:
            raise WorkFailed("NO_RESULT", "The trainer ended without a result; its log says why.")
        return result

    async def _succeed(self, job: JobRecord, version: VersionRecord) -> None:
        refused = await self._formats.publish(version)
        made = await self._database.read(lambda connection: version_of_job(connection, job.job_id))
        payload = version_payload(self._layout, made or version)
        warnings = [("warning", {"reason": refusal.reason, "message": refusal.message}) for refusal in refused]
        duration = f"{(now_us() - job.create_time) / 1e6:.6f}s"
        succeeded = {"version": payload["name"], "activated": version.verdict["activated"], "duration": duration}
        await self._write(
            job,
            [*warnings, ("published", {"version": payload}), ("verdict", version.verdict), ("succeeded", succeeded)],
            state=JobState.SUCCEEDED,
            version=payload["name"],
            verdict=version.verdict,
        )

    async def _fail(self, job: JobRecord, reason: str, message: str) -> None:
        if await self._database.read(lambda connection: version_of_job(connection, job.job_id)) is not None:
            # It is published; what is left, the links and the closing events, is tried again until it succeeds.
            await self._give_back(job, interrupted=True, reason=message)
            await asyncio.sleep(POLL_S)
            return
        failure = {"reason": reason, "message": message}
        with contextlib.suppress(LeaseLost):
            await write_when_possible(
                job.job_id,
                lambda: self._write(job, [("failed", failure)], state=JobState.FAILED, failure=failure),
                self._stopping,
            )
            await self._publisher.discard(job)

    async def _cancelled(self, job: JobRecord) -> None:
        current = await self._database.read(lambda connection: store.find_job(connection, job.job_id))
        assert current is not None
        payload = {"actor": current.cancel_actor, "reason": current.cancel_reason}
        with contextlib.suppress(LeaseLost):
            await self._write(job, [("cancelled", payload)], state=JobState.CANCELLED)
            await self._publisher.discard(job)

    async def _give_back(self, job: JobRecord, *, interrupted: bool, reason: str) -> None:
        with contextlib.suppress(LeaseLost):
            await self._database.write(
                lambda connection: store.release(
                    connection, job.job_id, job.fencing_token, interrupted=interrupted, reason=reason
                ),
                "lease.release",
            )

    async def _renew(self, job: JobRecord) -> None:
        while True:
            await asyncio.sleep(self._rules.lease_s / 3)
            try:
                await self._database.write(
                    lambda connection: store.renew(
                        connection, job.job_id, job.fencing_token, self._lease_end(now_us())
                    ),
                    "lease.renew",
                )
            except LeaseLost:
                # The next write of the job itself meets the same and stops it.
                return
            except StorageFailed as error:
                # Tried again well before the lease ends.
                logger.warning("lease_not_renewed", job_id=job.job_id, reason=error.reason)

    def _lease_end(self, now: int) -> int:
        return now + int(self._rules.lease_s * 1e6)

    async def _write(
        self, job: JobRecord, events: Sequence[tuple[str, Mapping[str, Any]]], **changes: Any
    ) -> JobRecord:
        updated, _ = await self._database.write(
            lambda connection: store.record(connection, job.job_id, job.fencing_token, now_us(), events, **changes),
            "event",
            last_resort=any(kind in store.CLOSING_KINDS for kind, _ in events),
        )
        if "state" in changes:
            logger.info("job_state", job_id=job.job_id, adapter=job.adapter, state=str(changes["state"]))
        self._log.wake(job.job_id)
        return updated
