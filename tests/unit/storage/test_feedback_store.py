"""Recorded reviews: repeats, revisions, and which review of a pair is the newest."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from lyra_adapters_server.feedback import record as feedback_record
from lyra_adapters_server.feedback.record import Receipt, Review, prepared
from lyra_adapters_server.storage import database as database_module
from lyra_adapters_server.storage import feedback as store
from lyra_adapters_server.storage import feedback_queries as queries
from lyra_adapters_server.storage import versions
from lyra_adapters_server.storage.database import Database
from lyra_adapters_server.storage.feedback_queries import FeedbackFilter, RecordedReview
from lyra_adapters_server.storage.tables import feedback, feedback_revisions
from lyra_adapters_server.types import Label, Sample
from sqlalchemy import func, select

S, R, N = Label.SUPPORTS, Label.REFUTES, Label.NEUTRAL
NOW = 1_000_000


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(tmp_path / "registry.db")
    database.migrate()
    return database


def review(
    id: str = "", premise: str = "p", label: Label = S, *, time: int | None = None, task: str = "", **fields: Any
) -> Review:
    sample = Sample(id=id, premise=premise, hypothesis="h", correct_label=label, **fields)
    return Review(sample, task, "", time)


def record(database: Database, *reviews: Review, now: int = NOW) -> list[str]:
    new = [prepared(one, "ada", "somebody") for one in reviews]
    return [outcome.value for outcome in database.write_now(lambda c: store.record(c, new, now))]


def listed(database: Database) -> list[RecordedReview]:
    page, more = database.read_now(
        lambda c: queries.page_of_feedback(c, FeedbackFilter(), before=None, limit=1000, max_bytes=10**6)
    )
    assert not more
    return page


def newest(database: Database) -> set[str]:
    """Ids that are marked as the newest of their pair; checked against a plain computation."""
    rows = database.read_now(lambda c: c.execute(select(feedback)).all())
    best: dict[str, Any] = {}
    for row in rows:
        if row.pair not in best or (row.review_time, row.recorded) > (
            best[row.pair].review_time,
            best[row.pair].recorded,
        ):
            best[row.pair] = row
    marked = {row.id for row in rows if row.newest}
    assert marked == {row.id for row in best.values()}
    return marked


def test_a_repeat_changes_nothing_and_another_label_is_a_revision(database: Database) -> None:
    assert record(database, review("a"), review("b", "q")) == ["STORED", "STORED"]
    assert record(database, review("a"), review("b", "q", R), now=NOW + 1) == ["UNCHANGED", "REVISED"]
    found = {one.sample.id: one for one in listed(database)}
    assert (found["a"].revision, found["b"].revision, found["b"].sample.correct_label) == (1, 2, R)
    assert found["b"].record_time == NOW + 1
    # Back again is a third revision, not a repeat of the first.
    assert record(database, review("b", "q", S), now=NOW + 2) == ["REVISED"]
    count = database.read_now(lambda c: c.execute(select(func.count()).select_from(feedback_revisions)).scalar())
    assert count == 4


@pytest.mark.parametrize(
    "change",
    [
        {"premise": "P"},
        {"original_label": N},
        {"original_confidence": 0.5},
        {"group": "doc"},
        {"task": "t"},
    ],
    ids=str,
)
def test_any_other_content_is_a_revision_and_the_time_alone_is_not(database: Database, change: dict[str, Any]) -> None:
    record(database, review("a", time=5))
    assert record(database, review("a", time=6)) == ["UNCHANGED"]
    assert record(database, review("a", **{"premise": "p", "time": 7, **change})) == ["REVISED"]


def test_an_old_import_repeated_overrules_nothing(database: Database) -> None:
    record(database, review("a", label=S, time=10))
    assert record(database, review("a", label=R, time=20)) == ["REVISED"]
    assert record(database, review("a", label=S, time=10), review("b", "q", time=1)) == ["UNCHANGED", "STORED"]
    # Older than what is in force: kept in the history, and repeated without effect.
    assert record(database, review("a", label=N, time=15)) == ["REVISED"]
    assert record(database, review("a", label=N, time=15)) == ["UNCHANGED"]
    found = {one.sample.id: one for one in listed(database)}["a"]
    assert (found.sample.correct_label, found.review_time, found.revision) == (R, 20, 2)


def test_a_review_without_a_time_is_the_newest_whatever_the_clocks_say(database: Database) -> None:
    record(database, review("a", label=S, time=NOW + 500))
    assert record(database, review("a", label=R), now=NOW) == ["REVISED"]
    (found,) = listed(database)
    assert (found.sample.correct_label, found.review_time) == (R, NOW + 500)


def test_empty_ids_are_digests_of_task_and_pair(database: Database) -> None:
    assert record(database, review(task="x"), review(task="y"), review(task="x", label=R)) == [
        "STORED",
        "STORED",
        "REVISED",
    ]
    ids = [one.sample.id for one in listed(database)]
    assert len(set(ids)) == 2
    assert all(len(id) == 32 for id in ids)


def test_the_newest_review_of_a_pair_is_marked(database: Database) -> None:
    record(database, review("a", "P  1", time=10), review("b", "p 1", R, time=20), review("c", "x", time=1))
    assert newest(database) == {"b", "c"}
    assert [one.superseded for one in listed(database)] == [False, False, True]
    # Of the same time: the one recorded last.
    record(database, review("a", "P  1", N, time=20))
    assert newest(database) == {"a", "c"}
    # Revised to another pair: both pairs are looked at again.
    record(database, review("a", "x", time=30))
    assert newest(database) == {"a", "b"}
    record(database, *(review(f"d{n}", f"pair {n % 7}", time=n % 3) for n in range(50)))
    assert len(newest(database)) == 9


def test_pages_are_bounded_by_rows_and_by_bytes(database: Database) -> None:
    record(database, *(review(f"{n}", f"{n} " + "é" * 100) for n in range(10)))

    def page(before: int | None, limit: int, max_bytes: int) -> tuple[list[str], bool]:
        found, more = database.read_now(
            lambda c: queries.page_of_feedback(c, FeedbackFilter(), before=before, limit=limit, max_bytes=max_bytes)
        )
        return [one.sample.id for one in found], more

    assert page(None, 4, 10**6) == (["9", "8", "7", "6"], True)
    assert page(4, 4, 10**6) == (["2", "1", "0"], False)
    assert page(None, 10, 500) == (["9", "8"], True)
    assert page(None, 10, 1) == (["9"], True)


def test_counts_for_status_are_those_of_the_newest_reviews(database: Database) -> None:
    record(
        database,
        review("a", "1", S, time=1, original_label=N),
        review("b", "1", S, time=2, original_label=S),
        review("c", "2", R, original_label=S),
        review("d", "3"),
    )
    counts = database.read_now(queries.due_counts)
    assert (counts.samples, counts.reviewed, counts.wrong) == (3, 2, 1)
    assert database.read_now(queries.used_samples) == {}


def test_a_registry_of_the_first_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(database_module.__file__).parent / "migrations"))
    database = Database(tmp_path / "old.db")
    with database._engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.exec_driver_sql("INSERT INTO adapters VALUES ('a', 2, 1, 1, 7)")
        connection.exec_driver_sql("INSERT INTO splits VALUES ('a', 'key', 1)")
        connection.commit()
    database.migrate()
    assert record(database, review("a")) == ["STORED"]
    pointer = database.read_now(lambda c: versions.find_pointer(c, "a"))
    assert pointer
    assert (pointer.active, pointer.pointer_revision) == (1, 1)
    assert database.read_now(lambda c: versions.known_sides(c, "a", ["key"])) == {"key": True}


def test_reviews_of_before_keep_their_history_and_belong_to_everybody(tmp_path: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(database_module.__file__).parent / "migrations"))
    database = Database(tmp_path / "old.db")
    with database._engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        connection.exec_driver_sql(
            "INSERT INTO feedback VALUES (1, 'a', 2, 2, 2, 'd', 't', '', 7, 'SUPPORTS', NULL, 'pair', 'content', 1, 2)"
        )
        for revision in (1, 2):
            connection.exec_driver_sql(
                f"INSERT INTO feedback_revisions VALUES (1, {revision}, 'd', 'p', 'h', 'SUPPORTS', NULL, NULL, '', "
                "'t', '', 'ada', 'anonymous', 7, 7)"
            )
        connection.commit()
    database.migrate()
    with database._engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT owner, id, revisions FROM feedback").all()
        assert [tuple(row) for row in found] == [("", "a", 2)]
        assert connection.exec_driver_sql("SELECT count(*) FROM feedback_revisions").scalar() == 2
        # What a review's texts hang on is still the review.
        connection.exec_driver_sql("DELETE FROM feedback")
        assert connection.exec_driver_sql("SELECT count(*) FROM feedback_revisions").scalar() == 0


def test_each_owner_has_ids_and_newest_reviews_of_its_own(database: Database) -> None:
    def of(owner: str, *reviews: Review) -> list[str]:
        new = [prepared(one, "ada", owner) for one in reviews]
        return [outcome.value for outcome in database.write_now(lambda c: store.record(c, new, NOW, owner))]

    def seen(owner: str | None) -> list[tuple[str, Label, bool]]:
        chosen = FeedbackFilter(owner=owner)
        page, _ = database.read_now(
            lambda c: queries.page_of_feedback(c, chosen, before=None, limit=100, max_bytes=10**6)
        )
        return sorted((one.principal, one.sample.correct_label, one.superseded) for one in page)

    assert of("a", review("x", label=S, time=1)) == ["STORED"]
    assert of("b", review("x", label=R, time=2)) == ["STORED"]
    assert of("", review("x", label=N, time=3)) == ["STORED"]
    assert seen("a") == [("a", S, False)]
    assert seen("b") == [("b", R, False)]
    assert seen(None) == [("", N, False), ("a", S, True), ("b", R, True)]
    assert of("a", review("y", label=R, time=0)) == ["STORED"]
    assert seen("a") == [("a", R, True), ("a", S, False)]
    for owner in ("a", "b", None):
        assert database.read_now(lambda c, owner=owner: queries.due_counts(c, owner)).samples == 1
    assert of("a", review("x", label=N, time=9)) == ["REVISED"]
    assert seen("b") == [("b", R, False)]


def test_the_same_reviews_from_many_threads_are_stored_once(database: Database) -> None:
    batch = [review(f"{n}", f"p{n}") for n in range(200)]

    async def all_at_once() -> list[Receipt]:
        return await asyncio.gather(*(feedback_record.record(database, batch, f"{n}", "p") for n in range(8)))

    receipts = asyncio.run(all_at_once())
    outcomes = [outcome for receipt in receipts for outcome in receipt.outcomes]
    assert (outcomes.count(store.Outcome.STORED), outcomes.count(store.Outcome.UNCHANGED)) == (200, 1_400)
    assert len(listed(database)) == 200
