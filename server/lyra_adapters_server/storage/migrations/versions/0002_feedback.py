"""Recorded feedback with its history, and which version used which row."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "feedback",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("revisions", sa.Integer(), nullable=False),
        sa.Column("recorded", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("domain", sa.String(), nullable=False),
        sa.Column("review_time", sa.BigInteger(), nullable=False),
        sa.Column("correct_label", sa.String(), nullable=False),
        sa.Column("original_label", sa.String(), nullable=True),
        sa.Column("pair", sa.String(), nullable=False),
        sa.Column("content", sa.String(), nullable=False),
        sa.Column("newest", sa.Boolean(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("id"),
    )
    with op.batch_alter_table("feedback", schema=None) as batch_op:
        batch_op.create_index("ix_feedback_time", ["review_time", "recorded"], unique=False)
        batch_op.create_index("ix_feedback_pair", ["pair", "review_time", "recorded"], unique=False)
        batch_op.create_index("ix_feedback_content", ["content", "newest"], unique=False)
        batch_op.create_index("ix_feedback_task", ["task_id"], unique=False)
        batch_op.create_index("ix_feedback_domain", ["domain"], unique=False)
        batch_op.create_index("ix_feedback_due", ["newest", "original_label", "correct_label"], unique=False)

    op.create_table(
        "feedback_revisions",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("premise", sa.String(), nullable=False),
        sa.Column("hypothesis", sa.String(), nullable=False),
        sa.Column("correct_label", sa.String(), nullable=False),
        sa.Column("original_label", sa.String(), nullable=True),
        sa.Column("original_confidence", sa.Float(), nullable=True),
        sa.Column("group", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("domain", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("principal", sa.String(), nullable=False),
        sa.Column("review_time", sa.BigInteger(), nullable=False),
        sa.Column("record_time", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["number"], ["feedback.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number", "revision"),
    )
    op.create_table(
        "sample_uses",
        sa.Column("adapter", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sample_id", sa.String(), nullable=False),
        sa.Column("content", sa.String(), nullable=False),
        sa.Column("held_out", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["adapter", "number"], ["versions.adapter", "versions.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("adapter", "number", "sample_id"),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("sample_uses", schema=None) as batch_op:
        batch_op.create_index("ix_sample_uses_adapter", ["adapter", "content", "number"], unique=False)
        batch_op.create_index("ix_sample_uses_content", ["content", "adapter", "number"], unique=False)
        batch_op.create_index("ix_sample_uses_sample", ["sample_id"], unique=False)


def downgrade() -> None:
    op.drop_table("sample_uses")
    op.drop_table("feedback_revisions")
    op.drop_table("feedback")
