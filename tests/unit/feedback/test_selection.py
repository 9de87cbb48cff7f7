"""Which recorded reviews a training takes, what it makes of contradictions, and when it is due."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lyra_adapters_server.feedback import selection
from lyra_adapters_server.feedback.merge import merge
from lyra_adapters_server.feedback.outlook import outlooks
from lyra_adapters_server.feedback.record import Review, prepared
from lyra_adapters_server.feedback.selection import FeedbackSource, Selected, select_feedback
from lyra_adapters_server.feedback.uses import uses_of
from lyra_adapters_server.scope import EVERYTHING
from lyra_adapters_server.storage import feedback as store
from lyra_adapters_server.storage import feedback_queries as queries
from lyra_adapters_server.storage import versions
from lyra_adapters_server.storage.database import Database
from lyra_adapters_server.storage.feedback_queries import FeedbackFilter, Users
from lyra_adapters_server.types import Label, Sample

S, R, N = Label.SUPPORTS, Label.REFUTES, Label.NEUTRAL
Record = Callable[..., None]


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(tmp_path / "registry.db")
    database.migrate()
    return database


def sample(id: str, premise: str, label: Label = S, original: Label | None = None) -> Sample:
    return Sample(id=id, premise=premise, hypothesis="h", correct_label=label, original_label=original)


@pytest.fixture
def record(database: Database) -> Record:
    def record(*samples: Sample, time: int | None = None, task: str = "", domain: str = "") -> None:
        new = [prepared(Review(one, task, domain, time), "ada", "somebody") for one in samples]
        database.write_now(lambda c: store.record(c, new, 1_000))

    return record


def select(database: Database, adapter: str = "a", *, only_new: bool = False, **chosen: object) -> Selected:
    source = FeedbackSource(FeedbackFilter(**chosen), only_new)  # type: ignore[arg-type]
    return database.read_now(lambda c: select_feedback(c, source, adapter))


def ids(selected: Selected) -> list[str]:
    return [one.id for one in selected.samples]


def publish(database: Database, adapter: str, number: int, training: list[Sample], held_out: list[Sample]) -> None:
    """A version that used these rows."""
    facts = {
        **dict.fromkeys(("task_id", "domain", "actor", "continued_from", "sha256", "base_model"), ""),
        **dict.fromkeys(("training_samples", "validation_samples", "size_bytes", "create_time"), 0),
        **{"adapter": adapter, "number": number, "job_id": f"{adapter}{number}", "base_identity": {}, "lora": {}},
        **{"metrics_before": None, "metrics_after": None, "verdict": {}, "files": []},
    }

    def work(connection: object) -> None:
        versions.ensure_adapter(connection, adapter)  # type: ignore[arg-type]
        versions.insert_version(connection, facts)  # type: ignore[arg-type]
        store.remember_uses(connection, adapter, number, uses_of(training, held_out))  # type: ignore[arg-type]

    database.write_now(work)


def test_filters_and_order(database: Database, record: Record) -> None:
    record(sample("1", "a"), time=30, task="t", domain="sleep")
    record(sample("2", "b"), time=10, task="t", domain="")
    record(sample("3", "c"), time=20, task="u", domain="sleep")
    assert ids(select(database)) == ["2", "3", "1"]
    assert ids(select(database, task_ids=("t",))) == ["2", "1"]
    assert ids(select(database, domains=("sleep",))) == ["3", "1"]
    assert ids(select(database, domains=("", "sleep"), task_ids=("u", "t"))) == ["2", "3", "1"]
    assert ids(select(database, reviewed_after=20, reviewed_before=30)) == ["3"]
    assert ids(select(database, task_ids=("nobody",))) == []


def test_of_contradicting_reviews_the_newest_wins(database: Database, record: Record) -> None:
    record(sample("old", "P", R), time=1, task="t")
    record(sample("new", "p ", S), time=3)
    record(sample("same", "p", S), time=2)
    record(sample("revised", "x", S), time=1)
    record(sample("revised", "x", N), time=2)
    merged = merge(select(database).samples, keep_newest=True)
    assert {(one.id, one.correct_label) for one in merged.samples} == {("new", S), ("revised", N)}
    assert (merged.merged_duplicates, merged.dropped_conflicts) == (1, 1)
    # Within one task the review of that task is the newest.
    assert [one.correct_label for one in select(database, task_ids=("t",)).samples] == [R]


def test_only_new_is_what_no_version_of_the_adapter_used(database: Database, record: Record) -> None:
    one, two, three = sample("1", "a"), sample("2", "b"), sample("3", "c")
    record(one, two, three)
    publish(database, "a", 1, [one], [two])
    assert ids(select(database, only_new=True)) == ["3"]
    assert ids(select(database, "b", only_new=True)) == ["1", "2", "3"]
    assert ids(select(database)) == ["1", "2", "3"]
    # With another label it is new again; the same label once more is not.
    record(sample("1", "a", R))
    record(sample("again", "B", S))
    assert ids(select(database, only_new=True)) == ["3", "1"]
    # A review that was overruled does not come back because nobody used it.
    record(sample("late", "b", N), time=1)
    assert ids(select(database, only_new=True)) == ["3", "1"]


def test_uses_are_kept_both_ways(database: Database, record: Record) -> None:
    one, two = sample("1", "a"), sample("2", "b")
    record(one, two)
    publish(database, "a", 1, [one], [])
    publish(database, "a", 2, [one], [two])

    def listed(**chosen: Users) -> dict[str, tuple[tuple[str, int], ...]]:
        page, _ = database.read_now(
            lambda c: queries.page_of_feedback(c, FeedbackFilter(**chosen), before=None, limit=9, max_bytes=10**6)  # type: ignore[arg-type]
        )
        return {found.sample.id: found.used_by for found in page}

    assert listed() == {"1": (("a", 1), ("a", 2)), "2": (("a", 2),)}
    assert set(listed(used_by=Users("a", 1))) == {"1"}
    assert set(listed(used_by=Users("a"))) == {"1", "2"}
    assert set(listed(not_used_by=Users("a", 1))) == {"2"}
    assert set(listed(not_used_by=Users("other"))) == {"1", "2"}
    summary = database.read_now(lambda c: queries.summarize(c, FeedbackFilter(), EVERYTHING))
    assert summary.versions == [("a", 2, 2), ("a", 1, 1)]
    assert (summary.reviews, summary.samples, summary.labels) == (2, 2, [("SUPPORTS", 2)])


def test_the_oldest_are_left_out_when_there_are_too_many(
    database: Database, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        record(sample(str(number), f"p{number}"), time=number)
    monkeypatch.setattr(selection, "MAX_SAMPLES", 3)
    found = select(database)
    assert (ids(found), found.left_out) == (["2", "3", "4"], 2)
    monkeypatch.setattr(selection, "MAX_SAMPLE_BYTES", 7)
    found = select(database)
    assert (ids(found), found.left_out) == (["3", "4"], 3)


def test_the_outlook_names_each_condition(database: Database, record: Record) -> None:
    def outlook(adapter: str = "a") -> tuple[bool, int, str]:
        found = database.read_now(lambda c: outlooks(c, [adapter]))[adapter]
        return found.due.due, found.new_samples, found.explanation

    none = "Not due: have 0 of 50 samples (50 missing); the error rate is not asked, because "
    none += "no sample has an original label."
    assert outlook() == (False, 0, none)
    rows = [sample(str(n), f"p{n}", S, N if n < 2 else S) for n in range(40)]
    record(*rows, domain="sleep")
    due, new, words = outlook()
    assert (due, new) == (False, 40)
    assert "have 40 of 50 samples (10 missing); 5.0% of 40 reviewed predictions were wrong, 10.0% are needed" in words
    assert "'sleep'" in words
    record(*(sample(f"w{n}", f"w{n}", S, R) for n in range(10)))
    publish(database, "a", 1, rows[:30], rows[30:])
    assert outlook()[:2] == (True, 10)
    assert "10 of the samples are new to a" in outlook()[2]
    assert outlook("b")[:2] == (True, 50)


def test_the_outlook_of_50_000_reviews_takes_tens_of_milliseconds(database: Database, record: Record) -> None:
    rows = [sample(str(n), f"premise {n} " + "x" * 500, S, N if n % 3 else S) for n in range(50_000)]
    for start in range(0, len(rows), 5_000):
        record(*rows[start : start + 5_000], task=f"task-{start}", domain="sleep")
    for number in range(1, 6):
        publish(database, "a", number, rows[: 400 * number], [])
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        found = database.read_now(lambda c: outlooks(c, ["a", "user_feedback"]))
        took.append(time.perf_counter() - begun)
    assert (found["a"].due.counts.samples, found["a"].new_samples) == (50_000, 48_000)
    print(f"outlook: best {min(took) * 1000:.1f} ms, worst {max(took) * 1000:.1f} ms")
    assert min(took) < 0.06
