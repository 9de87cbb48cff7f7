"""Accepting a job that trains on recorded feedback."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from lyra_adapters_server.errors import Refusal
from lyra_adapters_server.feedback import selection
from lyra_adapters_server.feedback.due import Trigger
from lyra_adapters_server.feedback.merge import content_digest
from lyra_adapters_server.feedback.record import Review, record
from lyra_adapters_server.feedback.selection import FeedbackSource
from lyra_adapters_server.feedback.split import keys_of
from lyra_adapters_server.jobs.acceptance import NewJob, accept
from lyra_adapters_server.jobs.limits import QueueLimits
from lyra_adapters_server.scope import EVERYTHING
from lyra_adapters_server.storage import jobs as store
from lyra_adapters_server.storage.database import Database
from lyra_adapters_server.storage.feedback_queries import FeedbackFilter
from lyra_adapters_server.storage.tables import splits
from lyra_adapters_server.types import Label, LoraConfig, Sample, TrainingConfig
from sqlalchemy import delete

LIMITS = QueueLimits(total=1000, per_principal=200)
NEW = NewJob(
    principal="somebody",
    request_id="11111111-1111-4111-8111-111111111111",
    request_digest="d",
    adapter="a",
    task_id="",
    actor="",
    domain="",
    base_alias="tiny",
    activation="GATED",
    continue_from="",
    samples=FeedbackSource(FeedbackFilter()),
    lora=LoraConfig(),
    training=TrainingConfig(),
    trigger=Trigger(min_samples=5),
    keep_newest=False,
)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(tmp_path / "registry.db")
    database.migrate()
    return database


def reviews(first: int, count: int, label: Label = Label.SUPPORTS) -> list[Review]:
    return [
        Review(Sample(id=f"{label}{n}", premise=f"p{n}", hypothesis="h", correct_label=label), "", "", None)
        for n in range(first, first + count)
    ]


def record_now(database: Database, *batches: list[Review]) -> None:
    for batch in batches:
        asyncio.run(record(database, batch, "ada", "somebody"))


def test_a_retry_means_the_same_job_although_more_was_recorded_since(database: Database) -> None:
    record_now(database, reviews(0, 10))
    job, created = asyncio.run(accept(database, NEW, LIMITS))
    assert (created, job.samples) == (True, 10)
    record_now(database, reviews(10, 10), reviews(0, 10, Label.REFUTES))
    again, created = asyncio.run(accept(database, NEW, LIMITS))
    assert (created, again.job_id, again.samples) == (False, job.job_id, 10)
    rows = database.read_now(lambda c: store.job_samples(c, job.job_id))
    assert {row["correct_label"] for side in rows for row in side} == {"SUPPORTS"}
    with pytest.raises(Refusal, match="REQUEST_ID_REUSED"):
        asyncio.run(accept(database, replace(NEW, request_digest="other"), LIMITS))


def test_contradictions_are_counted_and_the_newest_wins_without_asking(database: Database) -> None:
    record_now(database, reviews(0, 10), reviews(0, 4, Label.REFUTES))
    job, _ = asyncio.run(accept(database, replace(NEW, keep_newest=False), LIMITS))
    (queued,) = database.read_now(lambda c: store.events_after(c, job.job_id, 0, 10))
    assert (job.samples, queued.payload["dropped_conflicts"]) == (10, 4)
    rows = database.read_now(lambda c: store.job_samples(c, job.job_id))
    labels = [row["correct_label"] for side in rows for row in side]
    assert (labels.count("REFUTES"), labels.count("SUPPORTS")) == (4, 6)


def test_nothing_recorded_is_refused_even_by_force_and_with_a_new_domain(database: Database) -> None:
    for change in ({"trigger": Trigger(force=True)}, {"domain": "sleep"}):
        with pytest.raises(Refusal, match="NOT_ENOUGH_SAMPLES") as refused:
            asyncio.run(accept(database, replace(NEW, **change), LIMITS))  # type: ignore[arg-type]
        assert refused.value.metadata["have"] == "0"
    assert database.read_now(lambda c: store.queue(c, 10, EVERYTHING))[1] == 0


def test_what_was_too_much_is_said_in_the_stream(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "MAX_SAMPLES", 6)
    record_now(database, reviews(0, 4), reviews(4, 6))
    job, _ = asyncio.run(accept(database, NEW, LIMITS))
    events = database.read_now(lambda c: store.events_after(c, job.job_id, 0, 10))
    assert [(event.sequence, event.kind) for event in events] == [(1, "queued"), (2, "warning")]
    assert events[1].payload["reason"] == "OLDEST_LEFT_OUT"
    assert events[1].payload["message"].startswith("The 4 oldest reviews were left out")
    rows = database.read_now(lambda c: store.job_samples(c, job.job_id))
    assert {row["id"] for side in rows for row in side} == {f"SUPPORTS{n}" for n in range(4, 10)}


def test_a_new_domain_makes_it_due_once(database: Database) -> None:
    record_now(database, reviews(0, 3))
    with pytest.raises(Refusal, match="have 3 of 5 samples"):
        asyncio.run(accept(database, NEW, LIMITS))
    job, _ = asyncio.run(accept(database, replace(NEW, request_id=None, domain="sleep"), LIMITS))
    assert job.samples == 3
    with pytest.raises(Refusal, match="have 3 of 5 samples"):
        asyncio.run(accept(database, replace(NEW, request_id=None, domain="sleep"), LIMITS))


def test_a_review_that_is_extracted_again_stands_where_it_stood(database: Database) -> None:
    def extracted(end: str) -> list[Review]:
        return [
            Review(
                Sample(id=f"{n}{end}", premise=f"Nap {n} was long{end}", hypothesis="h", correct_label=Label.SUPPORTS),
                "",
                "",
                None,
            )
            for n in range(30)
        ]

    def sides(request: str) -> list[set[int]]:
        job, _ = asyncio.run(accept(database, replace(NEW, request_id=request), LIMITS))
        rows = database.read_now(lambda c: store.job_samples(c, job.job_id))
        return [{int(row["premise"].split()[1]) for row in side} for side in rows]

    record_now(database, extracted(""))
    first = sides("11111111-1111-4111-8111-111111111111")
    assert len(first[1]) == 6
    # As a registry is that was begun before letters were keys.
    later_keys = [key for review in extracted("") for key in keys_of(review.sample)[2:]]
    database.write_now(lambda c: c.execute(delete(splits).where(splits.c.key.in_(later_keys))))
    record_now(database, extracted("!"))
    assert sides("22222222-1111-4111-8111-111111111111") == first


def test_what_was_held_out_once_is_never_trained_on_again(database: Database) -> None:
    def accepted(request: int, rows: list[Sample]) -> list[set[str]]:
        new = replace(NEW, request_id=f"{request}1111111-1111-4111-8111-111111111111", samples=tuple(rows))
        job, _ = asyncio.run(accept(database, new, LIMITS))
        found = database.read_now(lambda c: store.job_samples(c, job.job_id))
        return [{row["group"] for row in side} for side in found]

    rows = [
        Sample(id=str(n), premise=f"p{n}", hypothesis="h", correct_label=Label.SUPPORTS, group=f"g{n}")
        for n in range(20)
    ]
    training, held_out = accepted(1, rows)
    trained, held = sorted(training)[0], sorted(held_out)[0]
    premise = next(row.premise for row in rows if row.group == trained)
    tie = Sample(id="tie", premise=premise, hypothesis="other", correct_label=Label.SUPPORTS, group=held)
    training, held_out = accepted(2, [*rows, tie])
    assert trained in held_out
    training, held_out = accepted(3, rows)
    assert trained in held_out
    assert trained not in training


def test_near_duplicates_that_were_merged_are_used_too(database: Database) -> None:
    record_now(
        database,
        reviews(0, 20),
        [
            Review(
                Sample(
                    id=end or "bare", premise=f"Naps help memory{end}", hypothesis="h", correct_label=Label.SUPPORTS
                ),
                "",
                "",
                None,
            )
            for end in (".", "")
        ],
    )
    job, _ = asyncio.run(accept(database, NEW, LIMITS))
    assert job.samples == 21
    ((row_id, content, held_out),) = database.read_now(lambda c: store.merged_rows(c, job.job_id))
    sides = database.read_now(lambda c: store.job_samples(c, job.job_id))
    (kept,) = [row for side in sides for row in side if row["premise"].startswith("Naps")]
    assert {row_id, kept["id"]} == {".", "bare"}
    assert held_out == (kept in sides[1])
    merged = Sample(id=row_id, premise="Naps help memory.", hypothesis="h", correct_label=Label.SUPPORTS)
    assert content == content_digest(merged)


def test_of_nearly_the_same_reviews_with_other_labels_the_newest_counts_once_it_is_due(database: Database) -> None:
    def nap(end: str, label: Label) -> Review:
        sample = Sample(id=f"nap{end}", premise=f"Naps help memory{end}", hypothesis="h", correct_label=label)
        return Review(sample, "", "", None)

    record_now(database, reviews(0, 3), [nap(".", Label.SUPPORTS), nap("", Label.REFUTES)])
    # Five, as Status counts them, of which four are trained on.
    job, _ = asyncio.run(accept(database, NEW, LIMITS))
    assert job.samples == 4
    (queued,) = database.read_now(lambda c: store.events_after(c, job.job_id, 0, 1))
    assert (queued.payload["merged_near_duplicates"], queued.payload["dropped_conflicts"]) == (0, 1)
    sides = database.read_now(lambda c: store.job_samples(c, job.job_id))
    assert [row["correct_label"] for side in sides for row in side if row["premise"].startswith("Naps")] == ["REFUTES"]
    # It is not taken for new later on.
    assert [row_id for row_id, _, _ in database.read_now(lambda c: store.merged_rows(c, job.job_id))] == ["nap."]


def test_it_is_said_what_holds_everything_out(database: Database) -> None:
    one = tuple(
        Sample(id=str(n), premise="p", hypothesis=f"h{n}", correct_label=Label.SUPPORTS, group="g") for n in range(5)
    )
    new = replace(NEW, samples=one, training=TrainingConfig(validation_fraction=0.6))
    with pytest.raises(Refusal, match=r"validation_fraction 0\.6 holds out all 5 rows"):
        asyncio.run(accept(database, new, LIMITS))


@pytest.mark.parametrize("domain", ["Sleep", " sleep\t", "ｓｌｅｅｐ", "sl\u200beep", " ", "\u200b", "\u3164"])
def test_a_domain_that_only_looks_new_makes_nothing_due(database: Database, domain: str) -> None:
    record_now(database, reviews(0, 3))
    asyncio.run(accept(database, replace(NEW, request_id=None, domain="sleep"), LIMITS))
    with pytest.raises(Refusal, match="have 3 of 5 samples"):
        asyncio.run(accept(database, replace(NEW, request_id=None, domain=domain), LIMITS))
