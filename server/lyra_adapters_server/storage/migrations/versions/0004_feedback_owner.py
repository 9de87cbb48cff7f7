"""Whose a review is: ids are unique under each owner."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# As of this revision; `owner` comes first.
FEEDBACK = (
    "number", "id", "revision", "revisions", "recorded", "digest", "task_id", "domain", "review_time",
    "correct_label", "original_label", "pair", "content", "newest", "size",
)  # fmt: skip
REVISIONS = (
    "number", "revision", "digest", "premise", "hypothesis", "correct_label", "original_label",
    "original_confidence", "group", "task_id", "domain", "actor", "principal", "review_time", "record_time",
)  # fmt: skip


def upgrade() -> None:
    # SQLite can't drop the old constraint, so both tables are made anew; the child too, because to drop a table
    # deletes what refers to it.
    op.create_table(
        "feedback_new",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
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
        sa.UniqueConstraint("owner", "id", name="uq_feedback_id"),
    )
    op.create_table(
        "feedback_revisions_new",
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
        sa.ForeignKeyConstraint(["number"], ["feedback_new.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number", "revision"),
    )
    connection = op.get_bind()
    for table, columns, owner in (("feedback", FEEDBACK, True), ("feedback_revisions", REVISIONS, False)):
        names = ", ".join(f'"{name}"' for name in columns)
        first, value = ("owner, ", "'', ") if owner else ("", "")
        copy = f'INSERT INTO "{table}_new" ({first}{names}) SELECT {value}{names} FROM "{table}"'  # noqa: S608 - constants
        connection.exec_driver_sql(copy)
    op.drop_table("feedback_revisions")
    op.drop_table("feedback")
    # The reference of the one follows the new name of the other.
    op.rename_table("feedback_new", "feedback")
    op.rename_table("feedback_revisions_new", "feedback_revisions")
    with op.batch_alter_table("feedback", schema=None) as batch_op:
        batch_op.create_index("ix_feedback_time", ["review_time", "recorded"], unique=False)
        batch_op.create_index("ix_feedback_pair", ["pair", "review_time", "recorded"], unique=False)
        batch_op.create_index("ix_feedback_content", ["content", "newest"], unique=False)
        batch_op.create_index("ix_feedback_task", ["task_id"], unique=False)
        batch_op.create_index("ix_feedback_domain", ["domain"], unique=False)
        batch_op.create_index("ix_feedback_due", ["newest", "original_label", "correct_label"], unique=False)


def downgrade() -> None:
    raise NotImplementedError("schemas only go forward; restore a backup")
