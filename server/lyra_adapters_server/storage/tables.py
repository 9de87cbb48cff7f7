"""The tables. Times are microseconds since the epoch (UTC); JSON columns hold what protos/ names, in its spelling."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    # The order of acceptance: the queue's order, and the listing's.
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("job_id", String, nullable=False, unique=True),
    Column("principal", String, nullable=False),
    Column("request_id", String),
    Column("request_digest", String, nullable=False),
    Column("adapter", String, nullable=False),
    Column("task_id", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("domain", String, nullable=False),
    Column("base_model", String, nullable=False),
    Column("activation", String, nullable=False),
    Column("continue_from", String, nullable=False),
    Column("lora", JSON, nullable=False),
    Column("training", JSON, nullable=False),
    Column("samples", Integer, nullable=False),
    Column("state", String, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("start_time", BigInteger),
    Column("end_time", BigInteger),
    Column("attempt", Integer, nullable=False),
    # Attempts that ended because the trainer or the server died; an orderly stop does not count.
    Column("interruptions", Integer, nullable=False),
    # Raised by every claim; whoever writes for a job shows the token it was given, so that a supervisor that lost
    # its lease without noticing can change nothing.
    Column("fencing_token", Integer, nullable=False),
    Column("lease_owner", String),
    Column("lease_until", BigInteger),
    Column("last_sequence", Integer, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("cancel_actor", String, nullable=False),
    Column("cancel_reason", String, nullable=False),
    Column("progress", JSON),
    Column("version", String),
    Column("verdict", JSON),
    Column("failure", JSON),
    # How it is computed (trainer/spec.py, Plan), from its first start on.
    Column("plan", JSON),
    # What ended the last attempt that did not bring the job to its end, in words; empty: none did.
    Column("interruption", String, nullable=False, server_default=""),
    # Idempotency is this constraint; NULL request ids never collide.
    UniqueConstraint("principal", "request_id", name="uq_jobs_request"),
    Index("ix_jobs_state", "state", "number"),
    Index("ix_jobs_adapter", "adapter", "number"),
    Index("ix_jobs_task", "task_id"),
)

# Apart from `jobs`, so that listing jobs reads no texts and texts can be deleted on their own.
job_rows = Table(
    "job_rows",
    metadata,
    Column("job_id", String, ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True),
    Column("training_samples", JSON, nullable=False),
    Column("validation_samples", JSON, nullable=False),
    # Rows that were merged into nearly the same ones: id, content digest, and whether these were held out. No texts.
    Column("merged", JSON, nullable=False, server_default="[]"),
)

events = Table(
    "events",
    metadata,
    # The key makes a gap or a second event of the same number impossible to hide.
    Column("job_id", String, ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("kind", String, nullable=False),
    Column("payload", JSON, nullable=False),
    sqlite_with_rowid=False,
)

adapters = Table(
    "adapters",
    metadata,
    Column("name", String, primary_key=True),
    # Only ever rises: a number is reserved before anything is renamed and never used again.
    Column("next_version", Integer, nullable=False),
    # The version in force; NULL is the bare base.
    Column("active", Integer),
    Column("pointer_revision", Integer, nullable=False),
    Column("change_time", BigInteger),
)

versions = Table(
    "versions",
    metadata,
    Column("adapter", String, ForeignKey("adapters.name"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("publish_order", Integer, nullable=False, unique=True),
    # One version a job: publishing twice is impossible.
    Column("job_id", String, nullable=False, unique=True),
    Column("task_id", String, nullable=False),
    Column("domain", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("base_model", String, nullable=False),
    Column("base_identity", JSON, nullable=False),
    Column("continued_from", String, nullable=False),
    Column("lora", JSON, nullable=False),
    Column("metrics_before", JSON),
    Column("metrics_after", JSON),
    Column("verdict", JSON, nullable=False),
    Column("calibration", JSON(none_as_null=True)),
    Column("training_samples", Integer, nullable=False),
    Column("validation_samples", Integer, nullable=False),
    Column("files", JSON, nullable=False),
    Column("sha256", String, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    # Once its files were deleted; the row stays, so that lineage can be read and the number is not used again.
    Column("delete_time", BigInteger),
    Column("delete_actor", String, nullable=False, server_default=""),
    Column("delete_reason", String, nullable=False, server_default=""),
    Index("ix_versions_task", "task_id"),
)

# Version numbers of jobs whose version is not in the registry (yet).
reservations = Table(
    "reservations",
    metadata,
    Column("adapter", String, ForeignKey("adapters.name"), primary_key=True),
    Column("number", Integer, primary_key=True),
    # A job keeps its number through every attempt.
    Column("job_id", String, nullable=False, unique=True),
    # Path, size and digest of each file, once they are complete, and what the version's row is to say.
    Column("files", JSON(none_as_null=True)),
    Column("result", JSON(none_as_null=True)),
)

# How a version did on each row that its gate asked about, for the report: probabilities, no texts.
version_rows = Table(
    "version_rows",
    metadata,
    Column("adapter", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("rows", JSON, nullable=False),
    ForeignKeyConstraint(["adapter", "number"], ["versions.adapter", "versions.number"], ondelete="CASCADE"),
)

# The files of a version in another form than PEFT's, once they are made. They follow from the version.
version_formats = Table(
    "version_formats",
    metadata,
    Column("adapter", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("form", String, primary_key=True),
    Column("create_time", BigInteger, nullable=False),
    Column("files", JSON, nullable=False),
    ForeignKeyConstraint(["adapter", "number"], ["versions.adapter", "versions.number"], ondelete="CASCADE"),
)

# Every change of a pointer. `parent` is the revision that one step back returns to: the history is a stack that is
# kept as a tree, so a rollback forgets nothing and two rollbacks never toggle.
activations = Table(
    "activations",
    metadata,
    Column("adapter", String, ForeignKey("adapters.name"), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("active", Integer),
    Column("previous", Integer),
    Column("parent", Integer),
    Column("kind", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("job_id", String, nullable=False),
    Column("principal", String, nullable=False),
    Column("request_id", String),
    Column("request_digest", String, nullable=False),
    UniqueConstraint("principal", "request_id", name="uq_activations_request"),
    ForeignKeyConstraint(["adapter", "active"], ["versions.adapter", "versions.number"]),
)

# Which side of the split a group (or premise) stands on under an adapter's name, for good.
splits = Table(
    "splits",
    metadata,
    Column("adapter", String, primary_key=True),
    # Digest of the group or of the premise: this table holds no texts.
    Column("key", String, primary_key=True),
    Column("held_out", Boolean, nullable=False),
    sqlite_with_rowid=False,
)

# A recorded review: what its newest revision says, but for the texts, so that counting reads none.
feedback = Table(
    "feedback",
    metadata,
    # The order of first recording, and the listing's.
    Column("number", Integer, primary_key=True, autoincrement=True),
    # Whose it is: the principal whose scope was limited when it recorded the review; empty: everybody's with the full
    # scope. Ids are unique under each owner, so that nobody revises a review that it can't see.
    Column("owner", String, nullable=False),
    Column("id", String, nullable=False),
    # The newest revision by review time, and how many there are.
    Column("revision", Integer, nullable=False),
    Column("revisions", Integer, nullable=False),
    # Rises with every recording: decides between reviews of the same time.
    Column("recorded", Integer, nullable=False),
    Column("digest", String, nullable=False),
    Column("task_id", String, nullable=False),
    Column("domain", String, nullable=False),
    Column("review_time", BigInteger, nullable=False),
    Column("correct_label", String, nullable=False),
    Column("original_label", String),
    # Digests: of the normalised pair, and of the pair with its label, which is what a version learns from.
    Column("pair", String, nullable=False),
    Column("content", String, nullable=False),
    # Whether it is the newest review of its pair, of all owners'; kept by storage/feedback.py.
    Column("newest", Boolean, nullable=False),
    # Bytes of its texts.
    Column("size", Integer, nullable=False),
    UniqueConstraint("owner", "id", name="uq_feedback_id"),
    Index("ix_feedback_time", "review_time", "recorded"),
    Index("ix_feedback_pair", "pair", "review_time", "recorded"),
    Index("ix_feedback_content", "content", "newest"),
    Index("ix_feedback_task", "task_id"),
    Index("ix_feedback_domain", "domain"),
    # Covers what Status asks.
    Index("ix_feedback_due", "newest", "original_label", "correct_label"),
)

# Every revision with its texts: these live here and in `job_rows`, nowhere else.
feedback_revisions = Table(
    "feedback_revisions",
    metadata,
    Column("number", Integer, ForeignKey("feedback.number", ondelete="CASCADE"), primary_key=True),
    Column("revision", Integer, primary_key=True),
    # Of everything a caller sent but the time.
    Column("digest", String, nullable=False),
    Column("premise", String, nullable=False),
    Column("hypothesis", String, nullable=False),
    Column("correct_label", String, nullable=False),
    Column("original_label", String),
    Column("original_confidence", Float),
    Column("group", String, nullable=False),
    Column("task_id", String, nullable=False),
    Column("domain", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("principal", String, nullable=False),
    Column("review_time", BigInteger, nullable=False),
    Column("record_time", BigInteger, nullable=False),
)

# Which version used which row, for training or held out: ids and digests, no texts.
sample_uses = Table(
    "sample_uses",
    metadata,
    Column("adapter", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("sample_id", String, primary_key=True),
    # As in `feedback`: a review whose label was changed since has not been used.
    Column("content", String, nullable=False),
    Column("held_out", Boolean, nullable=False),
    ForeignKeyConstraint(["adapter", "number"], ["versions.adapter", "versions.number"], ondelete="CASCADE"),
    Index("ix_sample_uses_adapter", "adapter", "content", "number"),
    Index("ix_sample_uses_content", "content", "adapter", "number"),
    Index("ix_sample_uses_sample", "sample_id"),
    sqlite_with_rowid=False,
)
