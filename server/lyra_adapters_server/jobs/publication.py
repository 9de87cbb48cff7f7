"""From a trained adapter to a published version: the verdict, the files, the row and the pointer, in that order."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection

from lyra_adapters_server import failpoints
from lyra_adapters_server.executors.base import Executor
from lyra_adapters_server.feedback.uses import uses_of
from lyra_adapters_server.jobs.champion import Champion, find_champion
from lyra_adapters_server.jobs.judging import Judging, Verdict, row_record, verdict_payload
from lyra_adapters_server.jobs.prepared import HalfPublished, Prepared
from lyra_adapters_server.jobs.seen import contents_seen
from lyra_adapters_server.jobs.training_record import data_care, training_record
from lyra_adapters_server.registry import pointer as pointers
from lyra_adapters_server.registry.card import CardFacts
from lyra_adapters_server.registry.describe import calibration_payload, metrics_payload
from lyra_adapters_server.registry.gate import Judgement
from lyra_adapters_server.registry.layout import Layout
from lyra_adapters_server.registry.links import follow_row
from lyra_adapters_server.registry.names import full_name
from lyra_adapters_server.registry.pointer import Asked
from lyra_adapters_server.registry.publish import PublishedFiles, place, write_files, wrong_files
from lyra_adapters_server.registry.repair import discard
from lyra_adapters_server.storage import jobs as job_store
from lyra_adapters_server.storage import versions as store
from lyra_adapters_server.storage.database import Database, now_us
from lyra_adapters_server.storage.feedback import SampleUse, remember_uses
from lyra_adapters_server.storage.jobs import JobRecord
from lyra_adapters_server.storage.reservations import find_reservation, give_up, prepare, reserve
from lyra_adapters_server.storage.trouble import storage_trouble
from lyra_adapters_server.storage.versions import VersionRecord
from lyra_adapters_server.trainer.events import Trained
from lyra_adapters_server.trainer.spec import TrainSpec
from lyra_adapters_server.types import AdapterRef, BaseCard, LoraConfig


class CancelledByCaller(Exception):
    """Cancel came before the version's row was written."""


class PointerMoved(Exception):
    """The pointer is no longer what the verdict was given against."""


class Publisher:
    """Publishes what jobs have trained."""

    def __init__(self, database: Database, layout: Layout, executor: Executor, judging: Judging) -> None:
        self._database = database
        self._layout = layout
        self._executor = executor
        self._judging = judging

    async def publish(self, job: JobRecord, spec: TrainSpec, trained: Trained) -> VersionRecord:
        """Publishes a job's adapter and returns the version.

        Order: the number is reserved durably; the files are complete on disk, and their digests stored with the
        number, before their name appears; it appears in the transaction that checks the fencing token and writes row
        and pointer; then the links. If the pointer moves in between, the verdict is given again, against what is in
        force then. Raises LeaseLost, CancelledByCaller, WorkerDied, StorageFailed.
        """
        challenger = AdapterRef(name=job.adapter, base_alias=spec.base_alias, directory=spec.output_dir)
        champion, trained_on = await self._champion(job, spec)
        prepared = Prepared(
            trained=trained,
            base=self._card(spec),
            scores=await self._judging.score(challenger, spec, trained_on),
            champion=champion.ref,
            champion_scores=await self._judging.score(champion.ref, spec, trained_on),
        )
        number = await self._database.write(partial(self._reserve, job=job), "publish.reserve")
        return await self._enter(job, spec, prepared, number, Path(spec.output_dir), None)

    async def half_published(self, job: JobRecord) -> HalfPublished | None:
        """What an earlier attempt gave its name but no row, if every file of it is as its reservation says.

        What another release of this service noted in another form is not taken up; then the job goes on before it.
        """
        found = await self._database.read(lambda connection: find_reservation(connection, job.job_id))
        if found is None or found.files is None or found.result is None:
            return None
        directory = self._layout.version(job.adapter, found.number)
        if await asyncio.to_thread(wrong_files, directory, found.files):
            return None
        try:
            prepared = Prepared.model_validate(found.result)
        except ValidationError:
            return None
        return HalfPublished(prepared, found.number, PublishedFiles(found.files))

    async def finish(self, job: JobRecord, spec: TrainSpec, half: HalfPublished) -> VersionRecord:
        """Publishes what an earlier attempt left half-published. Raises as publish()."""
        source = self._layout.version(job.adapter, half.number)
        return await self._enter(job, spec, half.prepared, half.number, source, half.files)

    async def link(self, job: JobRecord) -> VersionRecord:
        """Makes the links and the pointer file follow the row of the version that a job published."""
        version = await self._database.read(lambda connection: store.version_of_job(connection, job.job_id))
        assert version is not None
        await follow_row(self._database, self._layout, job.adapter, published=version.number)
        return version

    async def discard(self, job: JobRecord) -> None:
        """Clears what a job that ended without a version had prepared."""
        await self._database.write(lambda connection: discard(connection, self._layout, job.job_id), last_resort=True)

    async def _enter(
        self,
        job: JobRecord,
        spec: TrainSpec,
        prepared: Prepared,
        number: int,
        source: Path,
        files: PublishedFiles | None,
    ) -> VersionRecord:
        """From prepared files, or from those in `source` where there are none yet, to the row and the links."""
        learnt_from = (*spec.training_samples, *spec.replay_samples)
        uses = await asyncio.to_thread(uses_of, learnt_from, spec.validation_samples)
        merged = await self._database.read(lambda connection: job_store.merged_rows(connection, job.job_id))
        uses += [SampleUse(*row) for row in merged]
        while True:
            champion, trained_on = await self._champion(job, spec)
            anew = self._judging.asks_anew(spec, prepared.champion_scores)
            if champion.ref != prepared.champion or anew:
                scores = await self._judging.score(champion.ref, spec, trained_on)
                prepared = prepared.model_copy(update={"champion": champion.ref, "champion_scores": scores})
                if scores.general_rows not in ("", prepared.scores.general_rows):
                    # What was trained on more of the held-out rows leaves the general ones to decide; or these changed.
                    challenger = AdapterRef(name=job.adapter, base_alias=spec.base_alias, directory=str(source))
                    again = await self._judging.score(challenger, spec, trained_on)
                    prepared = prepared.model_copy(update={"scores": again})
                files = None
            # On a thread: thousands of resamples, and a digest of every row.
            verdict = await asyncio.to_thread(self._judging.judge, spec, prepared, trained_on)
            if files is None:
                care = await self._database.read(lambda connection: data_care(connection, job.job_id))
                name = full_name(job.adapter, number)
                files = await asyncio.to_thread(self._write_files, job, spec, prepared, verdict, name, source, care)
                await self._database.write(
                    partial(self._prepare, job=job, prepared=prepared, files=files), "publish.prepare"
                )
            commit = partial(
                self._commit,
                job=job,
                spec=spec,
                prepared=prepared,
                champion=champion,
                verdict=verdict,
                number=number,
                files=files,
                uses=uses,
            )
            try:
                await self._database.write(commit, "publish.commit")
            except PointerMoved:
                continue
            return await self.link(job)

    def _reserve(self, connection: Connection, job: JobRecord) -> int:
        job_store.record(connection, job.job_id, job.fencing_token, now_us(), [])
        return reserve(connection, job.adapter, job.job_id)

    def _prepare(self, connection: Connection, job: JobRecord, prepared: Prepared, files: PublishedFiles) -> None:
        job_store.record(connection, job.job_id, job.fencing_token, now_us(), [])
        prepare(connection, job.job_id, files.files, prepared.model_dump(mode="json"))

    async def _champion(self, job: JobRecord, spec: TrainSpec) -> tuple[Champion, set[str]]:
        """The champion as it is now, and the content of rows that it or the challenger's parent was trained on."""

        def read(connection: Connection) -> tuple[Champion, set[str]]:
            champion = find_champion(connection, self._layout, job.adapter, spec.base_alias)
            return champion, contents_seen(connection, champion.ref.name, job.continue_from)

        return await self._database.read(read)

    def _card(self, spec: TrainSpec) -> BaseCard:
        card = self._executor.card(spec.base_alias)
        assert card is not None, "a base that was trained on has been described"
        return card

    def _write_files(
        self,
        job: JobRecord,
        spec: TrainSpec,
        prepared: Prepared,
        verdict: Verdict,
        name: str,
        source: Path,
        care: dict[str, Any],
    ) -> PublishedFiles:
        judgement, before, after = verdict.judgement, verdict.before, verdict.after
        card = CardFacts(
            name=name,
            adapter=job.adapter,
            base=prepared.base.identity,
            encoder=prepared.base.prompt is None,
            continued_from=job.continue_from,
            domain=job.domain,
            champion=prepared.champion.name,
            verdict=judgement.outcome,
            explanation=judgement.explanation,
            training_samples=len(spec.training_samples),
            validation_samples=len(spec.validation_samples),
            lora=LoraConfig.model_validate(job.lora),
            before=before,
            after=after,
            calibration=prepared.trained.calibration,
        )
        metrics = {
            "champion": prepared.champion.name,
            "before": metrics_payload(before),
            "after": metrics_payload(after),
            "outcome": judgement.outcome,
            "explanation": judgement.explanation,
            "temperature": prepared.trained.calibration.temperature,
            "calibration": calibration_payload(prepared.trained.calibration),
            **verdict_payload(verdict),
        }
        training = training_record(job, spec, prepared.trained, prepared.base, care)
        with storage_trouble(), failpoints.step("publish.write"):
            return write_files(source, _stage(spec), card=card, metrics=metrics, training=training)

    def _commit(
        self,
        connection: Connection,
        job: JobRecord,
        spec: TrainSpec,
        prepared: Prepared,
        champion: Champion,
        verdict: Verdict,
        number: int,
        files: PublishedFiles,
        uses: list[SampleUse],
    ) -> None:
        """Name, row and pointer in one transaction. Raises PointerMoved, CancelledByCaller, LeaseLost.

        The name appears under the write lock, after the token was checked: a supervisor that lost its lease, even one
        that was stopped here, can never touch the directory that another one publishes.
        """
        held_job, _ = job_store.record(connection, job.job_id, job.fencing_token, now_us(), [])
        if held_job.cancel_requested:
            raise CancelledByCaller
        pointer = store.find_pointer(connection, job.adapter)
        assert pointer is not None
        if pointer.pointer_revision != champion.pointer_revision:
            raise PointerMoved
        if (stage := _stage(spec)).exists():
            place(self._layout, job.adapter, number, stage)
        judgement = verdict.judgement
        before, after = metrics_payload(verdict.before), metrics_payload(verdict.after)
        held = _held(connection, held_job, judgement)
        activated = not held and (judgement.outcome.passes or job.activation == "ALWAYS")
        said = {
            "outcome": f"VERDICT_OUTCOME_{judgement.outcome}",
            "champion": champion.ref.name,
            "champion_metrics": before,
            "challenger_metrics": after,
            "explanation": judgement.explanation,
            "activated": activated,
            "held": held,
            **verdict_payload(verdict),
        }
        said = {key: value for key, value in said.items() if value is not None}
        store.insert_version(
            connection,
            {
                "adapter": job.adapter,
                "number": number,
                "job_id": job.job_id,
                "task_id": job.task_id,
                "domain": job.domain,
                "actor": job.actor,
                "create_time": now_us(),
                "base_model": job.base_model,
                "base_identity": prepared.base.identity.model_dump(mode="json"),
                "continued_from": job.continue_from,
                "lora": job.lora,
                "metrics_before": before,
                "metrics_after": after,
                "verdict": said,
                "calibration": calibration_payload(prepared.trained.calibration),
                "training_samples": len(spec.training_samples),
                "validation_samples": len(spec.validation_samples),
                "files": files.files,
                "sha256": files.sha256,
                "size_bytes": files.size_bytes,
            },
        )
        give_up(connection, job.job_id)
        remember_uses(connection, job.adapter, number, uses)
        rows = row_record(prepared, verdict, spec.validation_samples)
        store.remember_rows(connection, job.adapter, number, rows)
        if activated:
            asked = Asked(principal=job.principal, actor=job.actor, reason=judgement.explanation, job_id=job.job_id)
            pointers.publish(connection, pointer, number, asked)


def _stage(spec: TrainSpec) -> Path:
    """Where a version's directory is made: in the attempt's own."""
    return Path(spec.output_dir) / "version"


def _held(connection: Connection, job: JobRecord, judgement: Judgement) -> str:
    """Why a version is not put in force although the verdict, or the request, allows it; empty if nothing is."""
    if job.activation == "MANUAL":
        return "The request asked for manual activation: look at it, then call Activate."
    if not judgement.outcome.passes and job.activation != "ALWAYS":
        return ""
    rollback = pointers.rolled_back_since(connection, job.adapter, job.start_time or job.create_time)
    if rollback is None:
        return ""
    to = full_name(job.adapter, rollback.active)
    return f"{rollback.actor or 'Somebody'} rolled back to {to} by hand while the job ran; call Activate if you agree."
