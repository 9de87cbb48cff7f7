"""Reserved version numbers: a job keeps its number through every attempt."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reservations",
        sa.Column("adapter", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("files", sa.JSON(), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["adapter"], ["adapters.name"]),
        sa.PrimaryKeyConstraint("adapter", "number"),
        sa.UniqueConstraint("job_id"),
    )


def downgrade() -> None:
    op.drop_table("reservations")
