"""Requests that must be refused: what is wrong, the call, and what the refusal must say.

Each case is in the proto's JSON form, which grpcurl takes as it is and the client takes as keyword arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

GOOD_ROW = {"premise": "p", "hypothesis": "h", "correct_label": "LABEL_SUPPORTS"}
UNKNOWN_UUID = "123e4567-e89b-42d3-a456-426614174000"


@dataclass(frozen=True)
class Case:
    """A call that must be refused."""

    title: str
    rpc: str
    request: dict[str, Any]
    code: str
    # The field's path, for INVALID_ARGUMENT; the reason otherwise.
    names: str
    # What the message says about the limit.
    says: str
    # How the client is called, where its arguments differ from the request.
    client: dict[str, Any] = field(default_factory=dict)


def train(title: str, names: str, says: str, code: str = "INVALID_ARGUMENT", **request: Any) -> Case:
    """A Train that is refused; good rows unless the case brings its own."""
    return Case(title, "Train", {"samples": [GOOD_ROW], **request}, code, names, says)


def rows(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    """A good row for each change, with it."""
    return [{**GOOD_ROW, "premise": f"p{number}", **change} for number, change in enumerate(changes)]


CASES = [
    train("empty premise", "samples[1].premise", "1 to 20,000", samples=rows({}, {"premise": ""})),
    train("blank hypothesis", "samples[0].hypothesis", "1 to 4,000", samples=rows({"hypothesis": " \n"})),
    train("premise too long", "samples[0].premise", "at most 20,000", samples=rows({"premise": "x" * 20_001})),
    train("hypothesis too long", "samples[0].hypothesis", "at most 4,000", samples=rows({"hypothesis": "x" * 4_001})),
    train("NUL in a text", "samples[0].premise", "NUL", samples=rows({"premise": "a\0b"})),
    train("unspecified label", "samples[0].correct_label", "LABEL_SUPPORTS", samples=rows({"correct_label": 0})),
    train("unknown label", "samples[0].correct_label", "LABEL_SUPPORTS", samples=rows({"correct_label": 9})),
    train("unknown original label", "samples[0].original_label", "LABEL_", samples=rows({"original_label": 9})),
    train("confidence above 1", "samples[0].original_confidence", "most 1", samples=rows({"original_confidence": 1.5})),
    train("id used twice", "samples[1].id", "samples[0]", samples=rows({"id": "a"}, {"id": "a"})),
    train(
        "contradicting labels",
        "samples[1].correct_label",
        "samples[0]",
        samples=rows({"premise": "p"}, {"premise": "P ", "correct_label": "LABEL_REFUTES"}),
    ),
    train("blank domain", "domain", "white space or invisible", domain=" "),
    train("invisible domain", "domain", "white space or invisible", domain="\u200b"),
    train("no rows", "samples", "1 to 20,000", samples=[]),
    train("too many rows", "samples", "at most 20,000", samples=rows(*[{}] * 20_001)),
    train("too many bytes", "samples", "16 MiB", samples=rows(*[{"premise": f"{n:04d}" + "x" * 19_000} for n in range(900)])),
    train("rows and feedback", "samples", "either samples or feedback", feedback={}),
    train("rank 0", "lora.rank", "from 1", lora={"rank": 0}),
    train("rank beyond the layer", "lora.rank", "at most 16", lora={"rank": 17}),
    train("alpha 0", "lora.alpha", "above 0", lora={"alpha": 0}),
    train("dropout 1", "lora.dropout", "below 1", lora={"dropout": 1}),
    train("unknown target", "lora.target_modules[1]", "q_proj", lora={"target_modules": ["q_proj", "w_proj"]}),
    train("negative rate", "training.learning_rate", "above 0", training={"learning_rate": -0.1}),
    train("absurd rate", "training.learning_rate", "at most 0.1", training={"learning_rate": 10}),
    train("rate that is no number", "training.learning_rate", "above 0", training={"learning_rate": "NaN"}),
    train("no epochs", "training.epochs", "from 1", training={"epochs": 0}),
    train("batch of 0", "training.batch_size", "from 1", training={"batch_size": 0}),
    train("fraction above 0.9", "training.validation_fraction", "at most 0.9", training={"validation_fraction": 0.95}),
    train("inner part above a half", "training.inner_fraction", "at most 0.5", training={"inner_fraction": 0.6}),
    train("no folds", "training.folds", "from 1", training={"folds": 0}),
    train("too many folds", "training.folds", "at most 10", training={"folds": 11}),
    train("too many candidates", "training.candidates", "at most 8", training={"candidates": [{"epochs": n} for n in range(1, 10)]}),
    train("empty candidate", "training.candidates[1]", "learning_rate or both", training={"candidates": [{"epochs": 2}, {}]}),
    train("candidate out of bounds", "training.candidates[0].learning_rate", "at most 0.1", training={"candidates": [{"learning_rate": 2}]}),
    train("candidate twice", "training.candidates[1]", "training.candidates[0]", training={"candidates": [{"epochs": 2}, {"epochs": 2}]}),
    train("candidate that is the job's own setting twice", "training.candidates[1]", "training.candidates[0]", training={"epochs": 2, "learning_rate": 0.01, "candidates": [{"epochs": 2}, {"learning_rate": 0.01}]}),
    train("candidates and no inner part", "training.inner_fraction", "training.candidates", training={"inner_fraction": 0, "candidates": [{"epochs": 1}, {"epochs": 2}]}),
    train("candidates and one document", "training.candidates", "more documents", samples=rows({"group": "a"}, {"group": "a"}), training={"candidates": [{"epochs": 1}, {"epochs": 2}]}, trigger={"force": True}),
    train("length beyond the model", "training.max_length", "at most 512", training={"max_length": 4096}),
    train("trigger of 0 samples", "trigger.min_samples", "from 1", trigger={"min_samples": 0}),
    train("unknown activation", "activation", "ACTIVATION_GATED", activation=9),
    *(
        train(f"adapter name {name[:12]!r}", "adapter", "[a-z][a-z0-9_]{0,62}", adapter=name)
        for name in ("..", "a/b", "Upper", "a" * 64, "x_v3", "x y", "é")
    ),
    train("task id too long", "task_id", "at most 200", task_id="x" * 201),
    train("request id that is no UUID", "request_id", "123e4567", request_id="nonsense"),
    train("base not allowed", "BASE_MODEL_NOT_ALLOWED", "tiny", code="PERMISSION_DENIED", base_model="gpt-x"),
    train("too few rows", "NOT_ENOUGH_SAMPLES", "have 1 of 50", code="FAILED_PRECONDITION"),
    train("unknown parent", "VERSION_NOT_FOUND", "no_such_v1", code="NOT_FOUND", continue_from="no_such_v1", trigger={"force": True}),
    Case("no feedback matches", "Train", {"feedback": {"task_ids": ["nobody"]}}, "FAILED_PRECONDITION", "NOT_ENOUGH_SAMPLES", "have 0 of 50"),
    Case(
        "times the wrong way round", "Train", {"feedback": {"reviewed_after": "2026-01-02T00:00:00Z", "reviewed_before": "2026-01-01T00:00:00Z"}},
        "INVALID_ARGUMENT", "feedback.reviewed_before", "later than feedback.reviewed_after",
        client={"feedback": {"reviewed_after": datetime(2026, 1, 2, tzinfo=UTC), "reviewed_before": datetime(2026, 1, 1, tzinfo=UTC)}},
    ),
    Case("no reviews", "RecordFeedback", {"reviews": []}, "INVALID_ARGUMENT", "reviews", "1 to 5,000"),
    Case(
        "blank domain in a review", "RecordFeedback", {"reviews": [{"sample": GOOD_ROW, "domain": "\u3164"}]}, "INVALID_ARGUMENT",
        "reviews[0].domain", "white space or invisible",
    ),
    Case(
        "empty premise in a review", "RecordFeedback", {"reviews": [{"sample": GOOD_ROW}, {"sample": {**GOOD_ROW, "premise": ""}}]},
        "INVALID_ARGUMENT", "reviews[1].sample.premise", "1 to 20,000",
    ),
    Case("no user of feedback", "ListFeedback", {"used_by": "Nobody"}, "INVALID_ARGUMENT", "used_by", "user_feedback_v3"),
    Case("foreign feedback page", "ListFeedback", {"page_token": "x"}, "INVALID_ARGUMENT", "page_token", "next_page_token"),
    Case("foreign page token", "List", {"page_token": "bm9uc2Vuc2U"}, "INVALID_ARGUMENT", "page_token", "next_page_token"),
    Case("negative page", "List", {"page_size": -1}, "INVALID_ARGUMENT", "page_size", "negative"),
    Case("bad name in a list", "List", {"adapter": "A"}, "INVALID_ARGUMENT", "adapter", "[a-z]"),
    Case("foreign job page", "ListJobs", {"page_token": "x"}, "INVALID_ARGUMENT", "page_token", "next_page_token"),
    Case("unknown job", "Status", {"job_id": UNKNOWN_UUID}, "NOT_FOUND", "JOB_NOT_FOUND", "ListJobs"),
    Case("unknown job watched", "Watch", {"job_id": UNKNOWN_UUID}, "NOT_FOUND", "JOB_NOT_FOUND", "ListJobs"),
    Case("unknown job cancelled", "Cancel", {"job_id": UNKNOWN_UUID}, "NOT_FOUND", "JOB_NOT_FOUND", "ListJobs"),
    Case("unknown adapter reported", "Report", {"adapter": "no_such"}, "NOT_FOUND", "ADAPTER_NOT_FOUND", "no_such"),
    Case("base reported", "Report", {"adapter": "done", "version": "base"}, "FAILED_PRECONDITION", "BASE_HAS_NO_REPORT", "nothing was trained"),
    Case("unknown version reported", "Report", {"adapter": "done", "version": "v9"}, "NOT_FOUND", "VERSION_NOT_FOUND", "v9"),
    Case("unknown adapter", "Rollback", {"adapter": "no_such"}, "NOT_FOUND", "ADAPTER_NOT_FOUND", "no_such"),
    Case("unknown task", "Rollback", {"task_id": "no such"}, "NOT_FOUND", "TASK_NOT_FOUND", "no such"),
    Case("neither adapter nor task", "Rollback", {}, "INVALID_ARGUMENT", "adapter", "adapter or task_id"),
    Case("both adapter and task", "Rollback", {"adapter": "a", "task_id": "t"}, "INVALID_ARGUMENT", "adapter", "either"),
    Case("bad rollback id", "Rollback", {"adapter": "a", "request_id": "7"}, "INVALID_ARGUMENT", "request_id", "UUID"),
    Case("version to activate missing", "Activate", {"adapter": "a"}, "INVALID_ARGUMENT", "version", "required"),
    Case("unknown version", "Activate", {"adapter": "done", "version": "v9"}, "NOT_FOUND", "VERSION_NOT_FOUND", "v9"),
    Case(
        "rejected version", "Activate", {"adapter": "done", "version": "v2"},
        "FAILED_PRECONDITION", "VERSION_REJECTED", "allow_rejected",
    ),
    Case("never in force", "Rollback", {"adapter": "done", "to_version": "v3"}, "FAILED_PRECONDITION", "NEVER_IN_FORCE", "Activate"),
    Case(
        "something else in force", "Rollback", {"adapter": "done", "expected_active": "v7"},
        "ABORTED", "ACTIVE_CHANGED", "done_v1",
    ),
    Case("unknown adapter downloaded", "Download", {"adapter": "no_such"}, "NOT_FOUND", "ADAPTER_NOT_FOUND", "no_such"),
    Case("unknown version downloaded", "Download", {"adapter": "done", "version": "v9"}, "NOT_FOUND", "VERSION_NOT_FOUND", "v9"),
    Case("base downloaded", "Download", {"adapter": "done", "version": "base"}, "FAILED_PRECONDITION", "BASE_HAS_NO_FILES", "no adapter"),
    Case("unknown file", "Download", {"adapter": "done", "version": "v1", "file": "../x"}, "NOT_FOUND", "FILE_NOT_FOUND", "there are"),
    Case(
        "a file and the archive", "Download", {"adapter": "done", "file": "README.md", "archive": True},
        "INVALID_ARGUMENT", "file", "one of the two",
    ),
    Case("bad name downloaded", "Download", {"adapter": "../a"}, "INVALID_ARGUMENT", "adapter", "[a-z]"),
    Case("unknown adapter followed", "WatchAdapter", {"adapter": "no_such"}, "NOT_FOUND", "ADAPTER_NOT_FOUND", "no_such"),
    Case(
        "followed beyond the last change", "WatchAdapter", {"adapter": "done", "after_revision": 99},
        "INVALID_ARGUMENT", "after_revision", "from 0 to",
    ),
    Case("bad name followed", "WatchAdapter", {"adapter": "X"}, "INVALID_ARGUMENT", "adapter", "[a-z]"),
    Case("version to delete missing", "DeleteVersion", {"adapter": "a"}, "INVALID_ARGUMENT", "version", "required", client={"adapter": "a", "version": ""}),
    Case("no such version to delete", "DeleteVersion", {"adapter": "done", "version": "v9"}, "NOT_FOUND", "VERSION_NOT_FOUND", "v9"),
    Case(
        "version in force deleted", "DeleteVersion", {"adapter": "done", "version": "v1"},
        "FAILED_PRECONDITION", "VERSION_IN_FORCE", "Roll back",
    ),
    Case("nobody's texts deleted", "DeleteFeedback", {}, "INVALID_ARGUMENT", "task_ids", "whose texts"),
    Case("empty id deleted", "DeleteFeedback", {"sample_ids": [""]}, "INVALID_ARGUMENT", "sample_ids[0]", "1 to"),
    Case("finished job cancelled", "Cancel", {"job_id": "DONE_JOB"}, "FAILED_PRECONDITION", "JOB_FINISHED", "ended"),
    Case(
        "watched beyond the end", "Watch", {"job_id": "DONE_JOB", "after_sequence": 10_000},
        "INVALID_ARGUMENT", "after_sequence", "from 0 to",
    ),
]  # fmt: skip
