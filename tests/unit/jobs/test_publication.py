"""A publication that is broken off anywhere is finished by the next attempt: one version, one number, whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lyra_adapters_server import failpoints
from lyra_adapters_server.feedback.general import GeneralRows, shipped_rows
from lyra_adapters_server.feedback.merge import content_digest
from lyra_adapters_server.feedback.uses import uses_of
from lyra_adapters_server.jobs.judging import Judging
from lyra_adapters_server.jobs.publication import Publisher
from lyra_adapters_server.registry.publish import wrong_files
from lyra_adapters_server.registry.repair import repair
from lyra_adapters_server.scope import EVERYTHING
from lyra_adapters_server.storage import jobs
from lyra_adapters_server.storage import versions as store
from lyra_adapters_server.storage.database import now_us
from lyra_adapters_server.storage.feedback import contents_trained_on, remember_uses
from lyra_adapters_server.storage.jobs import JobRecord, JobState, LeaseLost
from lyra_adapters_server.storage.reservations import all_reservations, prepare
from lyra_adapters_server.storage.tables import job_rows
from lyra_adapters_server.storage.trouble import StorageFailed
from lyra_adapters_server.storage.versions import VersionRecord
from lyra_adapters_server.trainer.events import Scored, Trained
from lyra_adapters_server.trainer.spec import ScoreSpec, TrainSpec
from lyra_adapters_server.types import (
    LABELS,
    AdapterRef,
    BaseCard,
    BaseIdentity,
    Label,
    LoraConfig,
    Sample,
    TrainingConfig,
)
from made_registry import MadeRegistry
from quick_server import PLAN
from safetensors.numpy import save_file
from sqlalchemy import update

STEPS = (
    *("publish.reserve", "publish.write", "publish.prepare", "publish.rename", "publish.commit"),
    *("link.flat", "link.pointer", "link.file"),
)
POINTS = [f"{step}.{side}" for step in STEPS for side in ("before", "after")]
NAMED = ("publish.rename.after",)
ROWED = ("publish.commit.after", "link.")


class Scoring:
    """An executor that says the same of every row, and notes who was asked about how many."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.then: Callable[[], object] = int

    async def score(self, spec: ScoreSpec) -> Scored:
        self.asked.append((spec.subject.name, len(spec.samples)))
        if spec.subject.name == "b":
            self.then()
        return Scored(probabilities=[(0.4, 0.3, 0.3)] * len(spec.samples), metrics=None, truncated=[])

    def card(self, _alias: str) -> BaseCard:
        return CARD


class Attempts:
    """The attempts at one job, each with its own fencing token."""

    def __init__(self, registry: MadeRegistry) -> None:
        self.registry = registry
        self.trainings = 0
        self.executor = Scoring()
        self.held_out: tuple[Sample, ...] = ()
        executor: Any = self.executor
        self.replay: tuple[Sample, ...] = ()
        self.general = {"tiny": shipped_rows()}
        self.judging = Judging(executor, self.general)
        self.publisher = Publisher(registry.database, registry.layout, executor, self.judging)
        registry.add_job("b", ended=False, job_id="job", activation="ALWAYS", lora=LORA.model_dump(mode="json"))

    def claim(self) -> JobRecord:
        job = self.registry.database.write_now(lambda c: jobs.claim(c, "me", now_us(), now_us() - 1))
        assert job
        return job

    def train(self, job: JobRecord) -> TrainSpec:
        """What the trainer leaves: the same bytes whenever it trains."""
        self.trainings += 1
        spec = self.spec(job)
        output = Path(spec.output_dir)
        output.mkdir(parents=True)
        save_file({"w": np.arange(6, dtype=np.float32)}, output / "adapter_model.safetensors")
        for name in ("adapter_config.json", "prompt.json"):
            (output / name).write_text("{}")
        return spec

    def spec(self, job: JobRecord) -> TrainSpec:
        return TrainSpec(
            job_id=job.job_id,
            base_alias="tiny",
            training_samples=(Sample(id="r", premise="p", hypothesis="h", correct_label=Label.SUPPORTS),),
            validation_samples=self.held_out,
            replay_samples=self.replay,
            lora=LORA,
            training=TrainingConfig(),
            champion=AdapterRef(name="base", base_alias="tiny"),
            output_dir=str(self.registry.layout.work(job.job_id) / f"attempt-{job.attempt}"),
        )

    async def attempt(self, job: JobRecord) -> VersionRecord:
        """As the supervisor does it."""
        done = self.registry.database.read_now(lambda c: store.version_of_job(c, job.job_id))
        if done is not None:
            return await self.publisher.link(job)
        half = await self.publisher.half_published(job)
        if half is not None:
            return await self.publisher.finish(job, self.spec(job), half)
        return await self.publisher.publish(job, self.train(job), TRAINED)


@pytest.fixture
def attempts(registry: MadeRegistry) -> Iterator[Attempts]:
    yield Attempts(registry)
    failpoints.arm("")


def check(attempts: Attempts) -> None:
    """One whole version, in force and linked, and nothing half-done."""
    registry = attempts.registry
    assert repair(registry.layout, registry.database) in (0, 1), "at most the work directory of the job is left"
    (version,), _ = registry.database.read_now(
        lambda c: store.page_of_versions(c, scope=EVERYTHING, adapter="b", limit=9)
    )
    assert version.number == 1
    assert wrong_files(registry.layout.version("b", 1), version.files) == []
    assert registry.layout.flat("b", 1).samefile(registry.layout.version("b", 1) / "adapter_model.safetensors")
    assert sorted(path.name for path in registry.layout.home.glob("b_v*")) == ["b_v1", "b_v1.safetensors"]
    assert registry.database.read_now(all_reservations) == []


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("action", ["raise:EIO", "timeout"])
def test_broken_off_anywhere_it_is_finished(attempts: Attempts, point: str, action: str) -> None:
    failpoints.arm(f"{point}={action}@1")
    with pytest.raises(StorageFailed):
        asyncio.run(attempts.attempt(attempts.claim()))
    # The next start, then the next attempt.
    repair(attempts.registry.layout, attempts.registry.database)
    version = asyncio.run(attempts.attempt(attempts.claim()))
    assert version.number == 1
    check(attempts)
    known = point in NAMED or point.startswith(ROWED)
    assert attempts.trainings == (1 if known else 2), "what has its name is not trained again"


def test_a_directory_that_is_not_as_it_was_prepared_is_not_taken_up(attempts: Attempts) -> None:
    failpoints.arm("publish.rename.after=raise:EIO@1")
    with pytest.raises(StorageFailed):
        asyncio.run(attempts.attempt(attempts.claim()))
    weights = attempts.registry.layout.version("b", 1) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    asyncio.run(attempts.attempt(attempts.claim()))
    assert attempts.trainings == 2
    check(attempts)


def test_what_another_release_noted_in_another_form_is_not_taken_up(attempts: Attempts) -> None:
    failpoints.arm("publish.rename.after=raise:EIO@1")
    with pytest.raises(StorageFailed):
        asyncio.run(attempts.attempt(attempts.claim()))
    database = attempts.registry.database
    (noted,) = database.read_now(all_reservations)
    assert noted.files is not None
    assert noted.result is not None
    files, result = noted.files, noted.result
    database.write_now(lambda c: prepare(c, "job", files, {**result, "said_by_it": 1}))
    asyncio.run(attempts.attempt(attempts.claim()))
    assert attempts.trainings == 2
    check(attempts)


@pytest.mark.parametrize("moved", ["while it is scored", "once it is judged"])
def test_what_came_in_force_meanwhile_is_what_it_is_judged_against(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch, moved: str
) -> None:
    registry, executor, judge = attempts.registry, attempts.executor, attempts.judging.judge
    attempts.held_out = tuple(
        Sample(id=f"h{n}", premise=f"premise {n}", hypothesis="h", correct_label=LABELS[n % 3]) for n in range(60)
    )
    in_between: list[int] = []

    def move() -> None:
        if not in_between:
            in_between.append(registry.add_version("b"))
            uses = uses_of(attempts.held_out[:40], ())
            registry.database.write_now(lambda c: remember_uses(c, "b", in_between[0], uses))

    def judge_and_move(*given: Any) -> Any:
        found = judge(*given)
        move()
        return found

    if moved == "while it is scored":
        executor.then = move
    else:
        monkeypatch.setattr(attempts.judging, "judge", judge_and_move)
    version = asyncio.run(attempts.attempt(attempts.claim()))
    assert version.verdict["champion"] == f"b_v{in_between[0]}"
    # It was trained on forty of the rows: what is left is too little, so that both are asked about the general ones.
    assert version.verdict["held_out"]["excluded_rows"] == 40
    general = len(shipped_rows().anchor)
    assert executor.asked == [("b", 60), ("base", 60), (f"b_v{in_between[0]}", 60), (f"b_v{in_between[0]}", general),
                              ("b", 60), ("b", general)]  # fmt: skip
    assert version.verdict["anchor"]["rows"] == general
    for side in (version.metrics_before, version.metrics_after):
        assert side is not None
        assert side["samples"] == 20
    said = json.loads((registry.layout.version("b", version.number) / "metrics.json").read_text())
    assert (said["champion"], said["before"]["samples"]) == (f"b_v{in_between[0]}", 20)


def test_general_rows_that_were_replaced_in_between_are_asked_about_anew(attempts: Attempts) -> None:
    attempts.held_out = tuple(
        Sample(id=f"h{n}", premise=f"premise {n}", hypothesis="h", correct_label=LABELS[n % 3]) for n in range(20)
    )
    failpoints.arm("publish.rename.after=raise:EIO@1")
    with pytest.raises(StorageFailed):
        asyncio.run(attempts.attempt(attempts.claim()))
    shipped = shipped_rows().anchor
    # As many as before, of other labels.
    others = tuple(row.model_copy(update={"correct_label": LABELS[0]}) for row in shipped)
    attempts.general["tiny"] = GeneralRows(anchor=others, replay=())
    attempts.executor.asked.clear()
    version = asyncio.run(attempts.attempt(attempts.claim()))
    assert attempts.executor.asked == [("base", 20), ("base", len(others)), ("b", 20), ("b", len(others))]
    assert attempts.trainings == 1
    # All of them are called SUPPORTS.
    assert version.verdict["anchor"]["challenger_accuracy"] == 1.0
    said = json.loads((attempts.registry.layout.version("b", 1) / "metrics.json").read_text())
    assert said["anchor"]["challenger_accuracy"] == 1.0
    check(attempts)


def test_what_a_version_used_is_remembered(attempts: Attempts) -> None:
    attempts.replay = shipped_rows().replay[:3]
    merged = ("m", "c" * 32, False)
    attempts.registry.database.write_now(
        lambda c: c.execute(update(job_rows).where(job_rows.c.job_id == "job").values(merged=[merged]))
    )
    asyncio.run(attempts.attempt(attempts.claim()))
    used = attempts.registry.database.read_now(lambda c: contents_trained_on(c, [("b", 1)]))
    assert "c" * 32 in used
    assert {content_digest(row) for row in attempts.replay} < used
    assert len(used) == 5


def test_who_lost_the_lease_touches_nothing(attempts: Attempts) -> None:
    first = attempts.claim()
    spec = attempts.train(first)
    second = attempts.claim()
    asyncio.run(attempts.attempt(second))
    before = snapshot(attempts.registry.layout.home)
    with pytest.raises(LeaseLost):
        asyncio.run(attempts.publisher.publish(first, spec, TRAINED))
    assert snapshot(attempts.registry.layout.home) == before
    check(attempts)


def test_a_job_that_fails_leaves_no_directory_and_its_number_is_not_used_again(attempts: Attempts) -> None:
    job = attempts.claim()
    failpoints.arm("publish.rename.after=raise:EIO@1")
    with pytest.raises(StorageFailed):
        asyncio.run(attempts.attempt(job))
    database, layout = attempts.registry.database, attempts.registry.layout
    database.write_now(
        lambda c: jobs.record(c, "job", job.fencing_token, now_us(), [("failed", {})], state=JobState.FAILED)
    )
    assert layout.version("b", 1).exists()
    repair(layout, database)
    assert not list(layout.home.glob("b_v*"))
    assert attempts.registry.add_version("b") == 2


def snapshot(home: Path) -> dict[str, int]:
    """Every file of the versions, by its identity on the disk."""
    return {str(path): path.stat().st_ino for path in home.rglob("*") if path.is_file() and ".staging" not in str(path)}


LORA = LoraConfig(target_modules=("q_proj",))
CARD = BaseCard(
    alias="tiny",
    identity=BaseIdentity(id="tiny", digest="d"),
    architecture="Tiny",
    parameters=6,
    max_length=16,
    linear_modules={"q_proj": (2, 3)},
    default_target_modules=("q_proj",),
    device="cpu",
    dtype="float32",
)
TRAINED = Trained(
    metrics_before=None,
    metrics_after=None,
    best_step=1,
    steps=1,
    stopped_early=False,
    truncated_samples=0,
    training_seconds=1.0,
    plan=PLAN,
)
