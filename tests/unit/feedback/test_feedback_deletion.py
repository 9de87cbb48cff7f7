"""Deleted texts are gone from every file of the home, byte by byte."""

from __future__ import annotations

import asyncio

import pytest
from lyra_adapters_server.errors import Refusal
from lyra_adapters_server.feedback.deletion import Deleted, delete_feedback
from lyra_adapters_server.feedback.record import Review, record
from lyra_adapters_server.scope import EVERYTHING, Scope
from lyra_adapters_server.storage import jobs
from lyra_adapters_server.storage.feedback_deletion import Whose
from lyra_adapters_server.storage.feedback_queries import FeedbackFilter, count_feedback
from lyra_adapters_server.types import Label, Sample
from made_registry import MadeRegistry

ALL = Whose(None, EVERYTHING)
LONG = "ü" * 3000


def review(name: str, task: str, text: str = "") -> Review:
    sample = Sample(
        id=name, premise=f"SECRET-{name}-{text} {LONG}", hypothesis=f"h {name}", correct_label=Label.REFUTES
    )
    return Review(sample, task, "", None)


def row(name: str) -> dict[str, str]:
    return {"id": name, "premise": f"SECRET-{name}- {LONG}", "hypothesis": "h", "correct_label": "NEUTRAL"}


def files_with(registry: MadeRegistry, what: str) -> list[str]:
    return [p.name for p in registry.layout.home.rglob("*") if p.is_file() and what.encode() in p.read_bytes()]


def delete(
    registry: MadeRegistry, tasks: tuple[str, ...] = (), ids: tuple[str, ...] = (), whose: Whose = ALL
) -> Deleted:
    return asyncio.run(delete_feedback(registry.database, tasks, ids, whose))


@pytest.fixture
def full(registry: MadeRegistry) -> MadeRegistry:
    database = registry.database
    for number in range(40):
        asyncio.run(record(database, [review(f"one{number}", "one"), review(f"two{number}", "two")], "ada", "p"))
    # A revision that moved to another task: its old text belongs to the first.
    asyncio.run(record(database, [review("moved", "one", "old")], "ada", "p"))
    asyncio.run(record(database, [review("moved", "two", "new")], "ada", "p"))
    registry.add_job(task_id="one", job_id="of-one", rows=[row("sent1"), row("sent2")])
    registry.add_job(task_id="two", job_id="of-two", rows=[row("one3"), row("two3")])
    return registry


def test_texts_of_a_task_are_gone_and_those_of_others_stay(full: MadeRegistry) -> None:
    assert files_with(full, "SECRET-one7-")
    assert delete(full, tasks=("one",)) == Deleted(reviews=41, job_rows=3)
    for name in ("one7", "one39", "moved", "sent1", "one3"):
        assert files_with(full, f"SECRET-{name}-") == []
    assert files_with(full, "SECRET-two3-")
    assert full.database.read_now(lambda c: count_feedback(c, FeedbackFilter())) == 40
    rows = full.database.read_now(lambda c: jobs.job_samples(c, "of-two"))
    assert [kept["id"] for kept in rows[0]] == ["two3"]
    assert delete(full, tasks=("one",)) == Deleted(reviews=0, job_rows=0)


def test_texts_of_a_sample(full: MadeRegistry) -> None:
    assert delete(full, ids=("one3", "sent2", "unknown")) == Deleted(reviews=1, job_rows=2)
    assert files_with(full, "SECRET-one3-") == []
    assert files_with(full, "SECRET-sent2-") == []
    assert files_with(full, "SECRET-sent1-")
    assert files_with(full, "SECRET-one30-")


@pytest.mark.parametrize(("tasks", "ids"), [(("live",), ()), ((), ("one5",)), (("one",), ())])
def test_rows_of_a_live_job_are_in_the_way(full: MadeRegistry, tasks: tuple[str, ...], ids: tuple[str, ...]) -> None:
    full.add_job(ended=False, job_id="running", task_id="live", rows=[row("one5")])
    with pytest.raises(Refusal) as refused:
        delete(full, tasks, ids)
    assert (refused.value.reason, refused.value.metadata) == ("ROWS_IN_USE", {"job_ids": "running"})
    assert files_with(full, "SECRET-one5-")
    assert full.database.read_now(lambda c: count_feedback(c, FeedbackFilter())) == 81


def test_a_reader_of_the_log_is_waited_for(full: MadeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lyra_adapters_server.feedback.deletion.TRIES", 2)
    with full.database._engine.connect() as reader, reader.begin():
        reader.exec_driver_sql("SELECT count(*) FROM jobs").scalar()
        full.database._engine.echo = False
        with pytest.raises(Refusal) as refused:
            delete(full, ids=("one1",))
    assert refused.value.reason == "READERS_IN_THE_WAY"
    assert delete(full, ids=("one1",)) == Deleted(reviews=0, job_rows=0)
    assert files_with(full, "SECRET-one1-") == []


def test_a_scoped_caller_deletes_only_what_it_can_see(full: MadeRegistry) -> None:
    team = Whose("team", Scope(("team_*",)))
    assert delete(full, ("one", "two"), ("one3",), team) == Deleted(reviews=0, job_rows=0)
    full.add_job("team_a", task_id="one", job_id="of-team", rows=[row("mine")])
    assert delete(full, ("one", "two"), ("one3",), team) == Deleted(reviews=0, job_rows=1)
    assert files_with(full, "SECRET-mine-") == []
    assert files_with(full, "SECRET-one3-")
