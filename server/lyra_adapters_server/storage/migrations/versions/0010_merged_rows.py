"""Rows that were merged into nearly the same ones: their version has used them, too."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job_rows", sa.Column("merged", sa.JSON(), nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("job_rows", "merged")
