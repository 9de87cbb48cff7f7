"""Making forms: once for all who ask, remembered, made again when lost, refused with the engine's reason."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lyra_adapters_server.errors import Kind, Refusal
from lyra_adapters_server.executors.base import WorkerDied, WorkFailed
from lyra_adapters_server.jobs.formats import FormatMaker
from lyra_adapters_server.registry.deletion import delete_version
from lyra_adapters_server.registry.describe import version_payload
from lyra_adapters_server.registry.format_files import mend_formats
from lyra_adapters_server.registry.formats import Format, FormatFiles
from lyra_adapters_server.storage import versions as store
from lyra_adapters_server.storage.versions import VersionRecord
from lyra_adapters_server.trainer.spec import FormatSpec
from published import Registry


class Engine:
    """An executor that writes the form's name into a file, when it is let."""

    def __init__(self) -> None:
        self.specs: list[FormatSpec] = []
        self.failure: Exception | None = None
        self.let = asyncio.Event()
        self.let.set()

    async def make_format(self, spec: FormatSpec) -> None:
        self.specs.append(spec)
        await self.let.wait()
        (Path(spec.output_dir) / f"{spec.subject.name}.{spec.form}").write_text(spec.form)
        if self.failure:
            raise self.failure


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    found = Registry(tmp_path / "home")
    found.publish()
    yield found
    found.database.close()


def maker(registry: Registry, engine: Engine, **options: Any) -> FormatMaker:
    return FormatMaker(registry.database, registry.layout, engine, **options)  # type: ignore[arg-type]  # part of one


def version(registry: Registry) -> VersionRecord:
    found = registry.database.read_now(lambda connection: store.find_version(connection, "user_feedback", 1))
    assert found
    return found


def nothing_half_made(registry: Registry) -> bool:
    return not list(registry.layout.staging.iterdir())


def test_callers_at_once_wait_for_the_same_and_later_ones_for_nothing(registry: Registry) -> None:
    async def run() -> list[FormatFiles]:
        engine = Engine()
        engine.let.clear()
        making = maker(registry, engine)
        first = [asyncio.create_task(making.find(Format.GGUF, version(registry))) for _ in range(5)]
        other = asyncio.create_task(making.find(Format.MERGED, version(registry)))
        await asyncio.sleep(0.05)
        # One who leaves stops nothing.
        first[0].cancel()
        engine.let.set()
        found = [*(await asyncio.gather(*first[1:])), await making.find(Format.GGUF, version(registry))]
        await other
        assert sorted(spec.form for spec in engine.specs) == ["GGUF", "MERGED"]
        assert engine.specs[0].base_digest == "d"
        # A maker of the next start finds them too.
        found.append(await maker(registry, Engine()).find(Format.GGUF, version(registry)))
        return found

    found = asyncio.run(run())
    assert all(files == found[0] for files in found)
    assert [file.path for file in found[0].files] == ["user_feedback_v1.GGUF"]
    assert (found[0].directory / "user_feedback_v1.GGUF").read_text() == "GGUF"
    assert nothing_half_made(registry)
    assert version(registry).formats == "GGUF,MERGED"


@pytest.mark.parametrize("lost", ["file", "directory", "cut"])
def test_what_is_lost_is_made_again(registry: Registry, lost: str) -> None:
    async def run() -> None:
        engine = Engine()
        making = maker(registry, engine)
        found = await making.find(Format.GGUF, version(registry))
        file = found.directory / found.files[0].path
        if lost == "cut":
            file.write_text("")
        else:
            file.unlink()
        if lost == "directory":
            found.directory.rmdir()
        assert await making.find(Format.GGUF, version(registry)) == found
        assert file.read_text() == "GGUF"
        assert len(engine.specs) == 2

    asyncio.run(run())


@pytest.mark.parametrize(
    ("failure", "kind", "reason", "said"),
    [
        (WorkFailed("FORMAT_NOT_AVAILABLE", "it has a head"), "FAILED_PRECONDITION", "FORMAT_NOT_AVAILABLE", "a head"),
        (WorkFailed("BASE_MODEL_UNKNOWN", "?"), "FAILED_PRECONDITION", "FORMAT_NOT_AVAILABLE", "list any more"),
        (WorkFailed("BASE_MODEL_LOAD_FAILED", "?"), "UNAVAILABLE", "BASE_MODEL_LOAD_FAILED", "could not be made"),
        (WorkFailed("DISK_FULL", "free space"), "UNAVAILABLE", "DISK_FULL", "free space"),
        (WorkFailed("ADAPTER_LOAD_FAILED", "?"), "DATA_LOSS", "ADAPTER_LOAD_FAILED", "user_feedback_v1"),
        (WorkFailed("INTERNAL", "?"), "INTERNAL", "INTERNAL", "user_feedback_v1"),
        (WorkerDied("?"), "UNAVAILABLE", "TRAINER_RESTARTING", "try again"),
    ],
)
def test_a_failure_is_told_and_leaves_nothing(
    registry: Registry, failure: Exception, kind: str, reason: str, said: str
) -> None:
    async def run() -> None:
        engine = Engine()
        engine.failure = failure
        making = maker(registry, engine)
        with pytest.raises(Refusal) as caught:
            await making.find(Format.GGUF, version(registry))
        assert (caught.value.kind, caught.value.reason) == (Kind[kind], reason)
        assert said in caught.value.message
        assert version(registry).formats is None
        engine.failure = None
        await making.find(Format.GGUF, version(registry))

    asyncio.run(run())
    assert nothing_half_made(registry)


def test_a_full_disk_is_told_and_leaves_nothing(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lyra_adapters_server.jobs.formats.seal", full)
    with pytest.raises(Refusal) as caught:
        asyncio.run(maker(registry, Engine()).find(Format.GGUF, version(registry)))
    assert caught.value.reason == "DISK_FULL"
    assert nothing_half_made(registry)
    assert not list(registry.layout.formats.glob("*/*"))


def test_publication_never_fails_over_its_forms(registry: Registry) -> None:
    async def run() -> list[Refusal]:
        engine = Engine()
        making = maker(
            registry, engine, at_publication=[Format.GGUF, Format.OLLAMA], ollama_models={"tiny": "tiny:f16"}
        )
        assert await making.publish(version(registry)) == []
        assert [spec.ollama_model for spec in engine.specs] == ["tiny:f16"] * 2
        engine.failure = RuntimeError("a bug")
        for form in ("gguf", "ollama"):
            (registry.layout.formats / "user_feedback_v1" / form / f"user_feedback_v1.{form.upper()}").unlink()
        return await making.publish(version(registry))

    assert [refusal.reason for refusal in asyncio.run(run())] == ["INTERNAL", "INTERNAL"]


def test_start_up_makes_rows_and_directories_agree(registry: Registry) -> None:
    async def run() -> None:
        making = maker(registry, Engine())
        for form in (Format.GGUF, Format.OLLAMA):
            await making.find(form, version(registry))

    asyncio.run(run())
    forms = registry.layout.formats / "user_feedback_v1"
    (forms / "ollama" / "user_feedback_v1.OLLAMA").write_text("cut off")
    (forms / "merged").mkdir()
    mended = [
        registry.database.write_now(lambda connection: mend_formats(registry.layout, connection)) for _ in range(2)
    ]
    assert mended == [3, 0]
    assert version(registry).formats == "GGUF"
    assert [path.name for path in forms.iterdir()] == ["gguf"]


def test_stopping_gives_up_what_is_under_way(registry: Registry) -> None:
    async def run() -> None:
        engine = Engine()
        engine.let.clear()
        making = maker(registry, engine)
        waiting = asyncio.create_task(making.find(Format.GGUF, version(registry)))
        await asyncio.sleep(0.05)
        await making.stop()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(run())
    assert nothing_half_made(registry)


def test_a_deleted_version_takes_its_forms_along(registry: Registry) -> None:
    async def run() -> None:
        engine = Engine()
        making = maker(registry, engine)
        before = version(registry)
        await making.find(Format.GGUF, before)
        engine.let.clear()
        waiting = asyncio.create_task(making.find(Format.MERGED, before))
        await asyncio.sleep(0.05)
        await delete_version(registry.database, registry.layout, "user_feedback", "v1", "ada", "too old")
        engine.let.set()
        with pytest.raises(Refusal, match="were deleted"):
            await waiting

    asyncio.run(run())
    assert version(registry).formats is None
    assert version_payload(registry.layout, version(registry))["formats"] == []
    assert not list(registry.layout.formats.iterdir())
    assert nothing_half_made(registry)
