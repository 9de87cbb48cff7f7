"""A caller's scope as a condition of a query."""

from __future__ import annotations

from sqlalchemy import ColumnElement, or_, true

from lyra_adapters_server.scope import Scope


def within(column: ColumnElement[str], scope: Scope) -> ColumnElement[bool]:
    """Whether an adapter's name is in the scope, read by SQLite as Scope itself reads it."""
    if scope.everything:
        return true()
    return or_(*(column.op("GLOB")(pattern) for pattern in scope.patterns))
