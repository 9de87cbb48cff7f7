from __future__ import annotations

import sqlite3

from lyra_adapters_server.logs import without_text
from sqlalchemy.exc import OperationalError

HIDDEN = "SEC" + "RET"


def test_an_error_is_logged_without_its_text_and_those_of_its_causes() -> None:
    try:
        try:
            raise sqlite3.OperationalError("no such column " + HIDDEN)
        except sqlite3.OperationalError as cause:
            raise OperationalError("INSERT", {"premise": HIDDEN}, cause) from cause
    except OperationalError as error:
        said = without_text(error)
    assert said["error"] == "OperationalError"
    assert "test_logs.py" in said["stack"]
    assert HIDDEN not in str(said)
