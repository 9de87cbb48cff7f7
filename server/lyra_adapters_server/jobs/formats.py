"""Versions in other forms: made by the worker, at publication or when first asked for, once for all who ask."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import structlog
from sqlalchemy import Connection

from lyra_adapters_server.errors import Kind, Refusal
from lyra_adapters_server.executors.base import Executor, WorkerDied, WorkFailed
from lyra_adapters_server.logs import without_text
from lyra_adapters_server.registry.format_files import is_whole, place_format, seal
from lyra_adapters_server.registry.formats import Format, FormatFiles, Maker, StoredFile, not_available
from lyra_adapters_server.registry.layout import Layout, remove_tree
from lyra_adapters_server.registry.names import full_name
from lyra_adapters_server.registry.pointer import whole_version
from lyra_adapters_server.storage import formats as store
from lyra_adapters_server.storage.database import Database, now_us
from lyra_adapters_server.storage.formats import FormatRecord
from lyra_adapters_server.storage.trouble import storage_trouble
from lyra_adapters_server.storage.versions import VersionRecord
from lyra_adapters_server.trainer.spec import FormatSpec
from lyra_adapters_server.types import AdapterRef

log = structlog.get_logger()

MADE: dict[Format, Literal["GGUF", "OLLAMA", "MERGED"]] = {
    Format.GGUF: "GGUF",
    Format.OLLAMA: "OLLAMA",
    Format.MERGED: "MERGED",
}

# What the worker says, and what its caller is told.
_KINDS = {"DISK_FULL": Kind.UNAVAILABLE, "ADAPTER_LOAD_FAILED": Kind.DATA_LOSS}


class FormatMaker:
    """Makes forms and remembers them.

    Args of the constructor: where versions lie and are known, what makes the files, the forms that a version gets when
    it is published, and for the base models, by alias, what FROM names in a Modelfile.
    """

    def __init__(
        self,
        database: Database,
        layout: Layout,
        executor: Executor,
        at_publication: Sequence[Format] = (),
        ollama_models: Mapping[str, str] | None = None,
    ) -> None:
        self._database = database
        self._layout = layout
        self._executor = executor
        self._at_publication = tuple(at_publication)
        self._ollama_models = dict(ollama_models or {})
        self._under_way: dict[tuple[str, int, Format], asyncio.Task[FormatRecord]] = {}

    def makers(self) -> dict[Format, Maker]:
        """For each form that is made, who makes it."""
        return {form: partial(self.find, form) for form in MADE}

    async def find(self, form: Format, version: VersionRecord) -> FormatFiles:
        """The files, made now if they were not before; callers at the same time wait for the same. Raises Refusal.

        A caller who leaves stops nothing.
        """
        record = await self._database.read(
            lambda connection: store.find_format(connection, version.adapter, version.number, form)
        )
        if record is None or not await asyncio.to_thread(is_whole, self._layout, record):
            key = (version.adapter, version.number, form)
            if key not in self._under_way:
                task = self._under_way[key] = asyncio.create_task(self._make(version, form), name=f"make-{form}")
                task.add_done_callback(lambda done: self._ended(key, done))
            record = await asyncio.shield(self._under_way[key])
        return FormatFiles(
            self._layout.format(version.adapter, version.number, form),
            tuple(StoredFile(file["path"], int(file["size_bytes"]), file["sha256"]) for file in record.files),
        )

    async def publish(self, version: VersionRecord) -> list[Refusal]:
        """Makes the forms that every version gets; returns why one can't be had now. Never fails over it."""
        refusals: list[Refusal] = []
        for form in self._at_publication:
            try:
                await self.find(form, version)
            except Refusal as refusal:
                refusals.append(refusal)
            except Exception as error:  # the version is published, whatever becomes of its forms
                name = full_name(version.adapter, version.number)
                log.error("format_broke", version=name, form=form, **without_text(error))
                refusals.append(Refusal(Kind.INTERNAL, "INTERNAL", f"{name} could not be made as {form}."))
        return refusals

    async def stop(self) -> None:
        """Gives up what is under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, key: tuple[str, int, Format], task: asyncio.Task[FormatRecord]) -> None:
        del self._under_way[key]
        # All who asked may have left; asyncio complains of a failure that nobody took.
        if not task.cancelled():
            task.exception()

    async def _make(self, version: VersionRecord, form: Format) -> FormatRecord:
        """Makes the files and their row. Raises Refusal."""
        name = full_name(version.adapter, version.number)
        stage = self._layout.staging / f"format-{uuid.uuid4().hex}"
        with storage_trouble():
            stage.mkdir(mode=0o700)
        begun = now_us()
        try:
            await self._executor.make_format(
                FormatSpec(
                    subject=AdapterRef(
                        name=name,
                        base_alias=version.base_model,
                        directory=str(self._layout.version(version.adapter, version.number)),
                    ),
                    form=MADE[form],
                    base_digest=version.base_identity["digest"],
                    output_dir=str(stage),
                    ollama_model=self._ollama_models.get(version.base_model, ""),
                )
            )
            with storage_trouble():
                files = await asyncio.to_thread(seal, stage)
            record = FormatRecord(version.adapter, version.number, form.value, now_us(), files)
            await self._database.write(partial(self._commit, stage=stage, record=record), "format.commit")
        except WorkerDied:
            raise Refusal(
                Kind.UNAVAILABLE,
                "TRAINER_RESTARTING",
                "The trainer, which makes the files, is being started again; try again in a few seconds.",
                retry_after_s=2.0,
            ) from None
        except WorkFailed as error:
            raise self._refusal(version, form, error) from None
        finally:
            await asyncio.to_thread(remove_tree, stage)
        log.info("format_made", version=name, form=form, seconds=round((now_us() - begun) / 1e6, 2))
        return record

    def _commit(self, connection: Connection, stage: Path, record: FormatRecord) -> None:
        # It may have been deleted meanwhile.
        whole_version(connection, record.adapter, f"v{record.number}")
        place_format(self._layout, connection, stage, record)

    def _refusal(self, version: VersionRecord, form: Format, error: WorkFailed) -> Refusal:
        if error.reason == "FORMAT_NOT_AVAILABLE":
            return not_available(version, form, error.message)
        if error.reason == "BASE_MODEL_UNKNOWN":
            return not_available(
                version, form, f"its base model {version.base_model} is not on this server's list any more"
            )
        # A base model that can't be read now may be read later: it is tried at each use.
        kind = Kind.UNAVAILABLE if error.reason.startswith("BASE_MODEL_") else _KINDS.get(error.reason, Kind.INTERNAL)
        name = full_name(version.adapter, version.number)
        retry = 30.0 if kind is Kind.UNAVAILABLE else None
        return Refusal(kind, error.reason, f"{name} could not be made as {form}: {error.message}.", retry_after_s=retry)
