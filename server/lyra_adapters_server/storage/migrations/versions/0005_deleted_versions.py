"""Versions whose files were deleted keep their row."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("versions", sa.Column("delete_time", sa.BigInteger(), nullable=True))
    op.add_column("versions", sa.Column("delete_actor", sa.String(), server_default="", nullable=False))
    op.add_column("versions", sa.Column("delete_reason", sa.String(), server_default="", nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("versions") as batch_op:
        for column in ("delete_reason", "delete_actor", "delete_time"):
            batch_op.drop_column(column)
