"""Deleting versions: never the one in force, the row stays, and a crash in between leaves nothing."""

from __future__ import annotations

import asyncio

import pytest
from lyra_adapters_server import failpoints
from lyra_adapters_server.errors import Refusal
from lyra_adapters_server.jobs.retention import Keep, Retention, old_versions
from lyra_adapters_server.registry.deletion import Deleted, delete_version
from lyra_adapters_server.registry.pointer import whole_version
from lyra_adapters_server.registry.repair import repair
from lyra_adapters_server.scope import EVERYTHING
from lyra_adapters_server.storage import jobs
from lyra_adapters_server.storage import versions as store
from made_registry import MadeRegistry


def delete(registry: MadeRegistry, version: str) -> Deleted:
    return asyncio.run(delete_version(registry.database, registry.layout, "a", version, "ada", "too old"))


def test_files_go_and_the_row_stays(registry: MadeRegistry) -> None:
    deleted = delete(registry, "v1")
    assert deleted.changed
    assert (deleted.version.state, deleted.version.delete_actor) == ("DELETED", "ada")
    assert not registry.layout.version("a", 1).exists()
    assert not registry.layout.flat("a", 1).exists()
    assert not delete(registry, "a_v1").changed
    listed, total = registry.database.read_now(lambda c: store.page_of_versions(c, scope=EVERYTHING, limit=10))
    assert ([version.number for version in listed], total) == ([3, 2], 2)
    asked, _ = registry.database.read_now(
        lambda c: store.page_of_versions(c, scope=EVERYTHING, states=["DELETED"], limit=10)
    )
    assert [version.number for version in asked] == [1]
    with pytest.raises(Refusal) as refused:
        registry.database.read_now(lambda c: whole_version(c, "a", "v1"))
    assert (refused.value.reason, refused.value.kind) == ("VERSION_DELETED", "NOT_FOUND")


@pytest.mark.parametrize(("version", "reason"), [("v3", "VERSION_IN_FORCE"), ("v9", "VERSION_NOT_FOUND")])
def test_refusals(registry: MadeRegistry, version: str, reason: str) -> None:
    with pytest.raises(Refusal) as refused:
        delete(registry, version)
    assert refused.value.reason == reason
    assert registry.layout.version("a", 3).exists()


def test_a_version_that_a_job_continues_from_stays(registry: MadeRegistry) -> None:
    registry.add_job("b", ended=False, continue_from="a_v1", job_id="child")
    with pytest.raises(Refusal) as refused:
        delete(registry, "v1")
    assert (refused.value.reason, refused.value.metadata) == ("VERSION_IN_USE", {"job_ids": "child"})


def test_rolling_back_passes_over_deleted_versions(registry: MadeRegistry) -> None:
    delete(registry, "v2")
    assert registry.rollback() == "1"
    assert registry.rollback() == "None"
    with pytest.raises(Refusal) as refused:
        registry.rollback(to_version="v2")
    assert refused.value.reason == "VERSION_DELETED"


def test_numbers_are_not_used_again(registry: MadeRegistry) -> None:
    registry.add_version(activate=False)
    delete(registry, "v4")
    assert registry.add_version() == 5


def test_a_crash_between_row_and_files_is_mended_at_the_next_start(registry: MadeRegistry) -> None:
    failpoints.arm("delete.files.before=raise:EIO")
    try:
        with pytest.raises(Refusal):
            delete(registry, "v1")
    finally:
        failpoints.arm("")
    assert registry.layout.version("a", 1).exists()
    assert repair(registry.layout, registry.database) == 1
    assert not registry.layout.version("a", 1).exists()
    assert repair(registry.layout, registry.database) == 0


def test_retention_keeps_the_newest_and_what_is_needed(registry: MadeRegistry) -> None:
    for _ in range(3):
        registry.add_version(activate=False)
    # In force: 3, after 2 and 1. Candidates: 4, 5, 6.
    assert registry.database.read_now(lambda c: old_versions(c, 2)) == [("a", 1), ("a", 4)]
    retention = Retention(registry.database, registry.layout, Keep(versions=2, job_days=0))
    asyncio.run(retention.look())
    asyncio.run(retention.look())
    listed, _ = registry.database.read_now(lambda c: store.page_of_versions(c, scope=EVERYTHING, limit=10))
    assert [version.number for version in listed] == [6, 5, 3, 2]
    assert registry.rollback() == "2"


def test_what_jobs_told_is_forgotten_after_its_time(registry: MadeRegistry) -> None:
    registry.add_job(ended=False, job_id="live")
    retention = Retention(registry.database, registry.layout, Keep(versions=0, job_days=1e-9))
    asyncio.run(retention.look())
    left = registry.database.read_now(lambda c: {e.job_id for e in jobs.events_after(c, "live", 0, 10)})
    assert left == {"live"}
    ended = [
        job
        for job in registry.database.read_now(lambda c: jobs.page_of_jobs(c, scope=EVERYTHING, limit=10))[0]
        if job.finished
    ]
    assert len(ended) == 3
    for job in ended:
        assert registry.database.read_now(lambda c, i=job.job_id: jobs.events_after(c, i, 0, 10)) == []
