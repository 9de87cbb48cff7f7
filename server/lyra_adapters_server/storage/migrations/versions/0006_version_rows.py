"""How a version did on each row that its gate asked about."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "version_rows",
        sa.Column("adapter", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("rows", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["adapter", "number"], ["versions.adapter", "versions.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("adapter", "number"),
    )


def downgrade() -> None:
    op.drop_table("version_rows")
