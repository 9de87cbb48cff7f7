"""The schema's versions (Alembic)."""
