"""What a training chooses, what it tells of it, and how a version did: over the wire, on a small base."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest
from lyra_adapters.v1 import adapter_service_pb2 as pb
from server_process import ServerProcess
from tiny_base import rows
from train_requests import kinds, train_request


@pytest.fixture(scope="module")
def trained(server: ServerProcess) -> list[pb.TrainEvent]:
    """The events of a training that tries two candidates in two folds."""
    request = train_request("chooses", activation=pb.ACTIVATION_ALWAYS)
    request.training.folds = 2
    for rate in (1e-6, 1e-2):
        request.training.candidates.add(learning_rate=rate)
    return list(server.stub().Train(request))


def test_candidates_are_compared_where_nothing_is_held_out(server: ServerProcess) -> None:
    request = train_request("nothing_held_out", count=120)
    request.training.validation_fraction = 0
    for rate in (1e-6, 1e-2):
        request.training.candidates.add(learning_rate=rate)
    started = _started(list(server.stub().Train(request)))
    assert started.validation_samples == 0
    assert started.inner_samples == pytest.approx(18, abs=6)
    (version,) = server.stub().List(pb.ListRequest(adapter="nothing_held_out")).versions
    assert version.verdict.outcome == pb.VERDICT_OUTCOME_UNDECIDED
    assert version.calibration.rows == started.inner_samples
    runs = json.loads((Path(version.path) / "training.json").read_text())["result"]["runs"]
    assert [(run["learning_rate"], run["chosen"]) for run in runs] == [(1e-6, False), (1e-2, True)]


def test_every_run_tells_its_progress(trained: list[pb.TrainEvent]) -> None:
    assert kinds(trained)[-1] == "succeeded"
    progress = [event.progress for event in trained if event.WhichOneof("event") == "progress"]
    assert {one.run for one in progress} == {1, 2, 3, 4, 5}
    assert {one.runs for one in progress} == {5}
    assert progress[0].run_name.startswith("candidate 1 of 2: ")
    assert progress[-1].run_name.startswith("all rows")
    steps = [one.step for one in progress]
    assert steps == sorted(steps)
    assert progress[-1].fraction_done == 1.0


def test_the_version_says_what_was_chosen_and_its_temperature(
    server: ServerProcess, trained: list[pb.TrainEvent]
) -> None:
    (version,) = server.stub().List(pb.ListRequest(adapter="chooses")).versions
    directory = Path(version.path)
    temperature = json.loads((directory / "prompt.json").read_text())["temperature"]
    metrics = json.loads((directory / "metrics.json").read_text())
    assert version.calibration.temperature == metrics["temperature"] == temperature
    assert version.metrics_after.temperature == temperature
    assert version.calibration.cross_fitted
    assert version.calibration.rows == version.training_samples
    assert f"{temperature:g}" in (directory / "README.md").read_text()
    training = json.loads((directory / "training.json").read_text())
    assert [run["chosen"] for run in training["result"]["runs"]] == [False, False, True, True, True]
    assert training["training"]["folds"] == 2
    data = training["data"]
    assert sum(data["training_labels"].values()) == version.training_samples
    # Rows that were sent are trained on exactly as sent.
    assert data["replayed_general_ids"] == []
    assert {row["id"] for row in rows(60)} == {*data["training_ids"], *data["held_out_ids"]}


def test_the_report_has_the_rows_of_the_verdict_and_the_files_have_no_text(
    server: ServerProcess, trained: list[pb.TrainEvent]
) -> None:
    stub = server.stub()
    answer = stub.Report(pb.ReportRequest(adapter="chooses"))
    version = answer.version
    reviews = [row for row in answer.rows if not row.general]
    assert len(reviews) == version.validation_samples == version.verdict.held_out.rows
    assert len(answer.rows) - len(reviews) == version.verdict.anchor.rows
    right = sum(_answer(row.challenger) == row.sample.correct_label for row in reviews)
    assert right / len(reviews) == pytest.approx(version.metrics_after.accuracy)
    assert answer.champion_metrics.brier == pytest.approx(version.metrics_before.brier, abs=1e-4)
    assert answer.challenger_metrics.brier == pytest.approx(version.metrics_after.brier, abs=1e-4)
    texts = {row["id"]: row["premise"] for row in rows(60)}
    assert all(row.sample.premise == texts[row.sample.id] for row in reviews)
    for file in Path(version.path).iterdir():
        if file.suffix in (".json", ".md"):
            assert reviews[0].sample.premise not in file.read_text()


def test_the_report_comes_in_pages(server: ServerProcess, trained: list[pb.TrainEvent]) -> None:
    stub = server.stub()
    whole = stub.Report(pb.ReportRequest(adapter="chooses", version="v1"))
    found: list[pb.ReportRow] = []
    token = ""
    while token or not found:
        page = stub.Report(pb.ReportRequest(adapter="chooses", version="v1", page_size=7, page_token=token))
        found += page.rows
        token = page.next_page_token
    assert found == list(whole.rows)
    assert server.client.report("chooses").rows[0].sample.id == whole.rows[0].sample.id


def test_there_is_no_report_where_nothing_is_in_force(server: ServerProcess, trained: list[pb.TrainEvent]) -> None:
    list(server.stub().Train(train_request("manual_only", epochs=1, activation=pb.ACTIVATION_MANUAL)))
    with pytest.raises(grpc.RpcError) as refused:
        server.stub().Report(pb.ReportRequest(adapter="manual_only"))
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_recorded_corrections_are_cleaned_and_general_rows_replayed(server: ServerProcess) -> None:
    reviews = [_review(number, row) for number, row in enumerate(rows(60))]
    again = pb.Review(task_id="learning")
    again.sample.CopyFrom(reviews[0].sample)
    again.sample.id = "learn-again"
    again.sample.premise = again.sample.premise.replace("The premise", "The  Premise,")
    server.stub().RecordFeedback(pb.RecordFeedbackRequest(reviews=[*reviews, again]))
    request = pb.TrainRequest(
        adapter="recorded", feedback=pb.FeedbackSource(task_ids=["learning"]), activation=pb.ACTIVATION_ALWAYS
    )
    request.training.epochs = 1
    events = list(server.stub().Train(request))
    assert kinds(events)[-1] == "succeeded"
    assert events[0].queued.merged_near_duplicates == 1
    started = next(event.started for event in events if event.WhichOneof("event") == "started")
    assert started.replayed_general_rows > 0
    assert started.training_samples + started.validation_samples == 60
    (version,) = server.stub().List(pb.ListRequest(adapter="recorded")).versions
    data = json.loads((Path(version.path) / "training.json").read_text())["data"]
    assert len(data["replayed_general_ids"]) == started.replayed_general_rows
    assert (data["corrections"], data["confirmations"], data["merged_near_duplicates"]) == (60, 0, 1)
    # Going on from it with all that is recorded by now: what chooses is only what it was not trained on.
    later = [
        _review(number, row | {"premise": f"Later: {row['premise']}", "group": f"later {row['group']}"})
        for number, row in enumerate(rows(24), start=60)
    ]
    server.stub().RecordFeedback(pb.RecordFeedbackRequest(reviews=later))
    request.continue_from = version.name
    assert kinds(list(server.stub().Train(request)))[-1] == "succeeded"
    second = server.stub().List(pb.ListRequest(adapter="recorded")).versions[0]
    assert second.continued_from == version.name
    grown = json.loads((Path(second.path) / "training.json").read_text())
    inner = set(grown["data"]["inner_ids"])
    assert inner
    assert inner.isdisjoint(data["training_ids"])
    assert set(data["training_ids"]) < set(grown["data"]["training_ids"])
    assert second.calibration.rows == len(inner)
    # Nothing is new to it by then, the merged review included.
    request.feedback.only_new = True
    with pytest.raises(grpc.RpcError, match="have 0 of 50 samples"):
        list(server.stub().Train(request))


def _review(number: int, row: dict[str, str]) -> pb.Review:
    sample = pb.Sample(
        id=f"learn-{number}",
        premise=row["premise"],
        hypothesis=row["hypothesis"],
        correct_label=f"LABEL_{row['correct_label']}",
        original_label=f"LABEL_{row['original_label']}",
        group=row["group"],
    )
    return pb.Review(sample=sample, task_id="learning")


def _answer(row: pb.Probabilities) -> int:
    values = {pb.LABEL_SUPPORTS: row.supports, pb.LABEL_REFUTES: row.refutes, pb.LABEL_NEUTRAL: row.neutral}
    return max(values, key=values.__getitem__)


def test_a_version_that_goes_on_from_another_answers_as_that_one_did(server: ServerProcess) -> None:
    parent = list(server.stub().Train(train_request("academic", epochs=1, activation=pb.ACTIVATION_ALWAYS)))
    assert _started(parent).distilled_pairs == 0
    request = train_request("grown", epochs=1, activation=pb.ACTIVATION_ALWAYS, continue_from="academic_v1")
    # A model that was wrong on most of what was reviewed.
    for number, sample in enumerate(request.samples):
        others = [label for label in (1, 2, 3) if label != sample.correct_label]
        sample.original_label = sample.correct_label if number % 6 == 0 else others[number % 2]
    started = _started(list(server.stub().Train(request)))
    # 60 rows less those held out, one pair each; they are counted apart from what was sent.
    assert started.distilled_pairs == started.training_samples
    (version,) = server.stub().List(pb.ListRequest(adapter="grown")).versions
    written = json.loads((Path(version.path) / "training.json").read_text())
    assert written["continued_from"] == "academic_v1"
    assert (written["training"]["distillation"], written["training"]["balance_reviews"]) == (1.0, True)
    assert written["data"]["distilled_pairs"] == started.distilled_pairs
    weights = written["data"]["review_weights"]
    assert weights["confirmation"] > 3 * weights["correction"] > 0


def test_rows_can_be_trained_on_and_nothing_else(server: ServerProcess) -> None:
    list(server.stub().Train(train_request("plain_parent", epochs=1, activation=pb.ACTIVATION_ALWAYS)))
    request = train_request("plain", epochs=1, continue_from="plain_parent_v1")
    request.training.distillation = 0
    request.training.balance_reviews = False
    assert _started(list(server.stub().Train(request))).distilled_pairs == 0


def test_distillation_has_its_bounds(server: ServerProcess) -> None:
    request = train_request("refused")
    request.training.distillation = 4.5
    with pytest.raises(grpc.RpcError) as refused:
        list(server.stub().Train(request))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "training.distillation" in refused.value.details()
    assert "4" in refused.value.details()


def _started(events: list[pb.TrainEvent]) -> pb.Started:
    return next(event.started for event in events if event.WhichOneof("event") == "started")


def test_the_stream_warns_of_rows_that_teach_and_measure_little(server: ServerProcess) -> None:
    request = train_request("one_sided", count=30, epochs=1, trigger=pb.TriggerPolicy(force=True))
    request.training.validation_fraction = 0
    request.training.folds = 1
    for row in request.samples:
        row.correct_label = pb.LABEL_SUPPORTS
    events = list(server.stub().Train(request))
    assert kinds(events)[:4] == ["queued", "started", "warning", "warning"]
    assert [event.warning.reason for event in events[2:4]] == ["NOTHING_HELD_OUT", "LABELS_MISSING"]
    assert kinds(events)[-1] == "succeeded"
