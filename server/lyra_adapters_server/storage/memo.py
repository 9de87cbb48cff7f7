"""Remembers what was read until somebody commits, so that asking again costs no transaction and no thread."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Hashable
from pathlib import Path
from typing import Any

# Answers kept.
KEPT = 256


class Memo:
    """Answers by key, each good for one version of the database. Used on one thread, the event loop's.

    SQLite tells a connection whether any other one has committed since, in this process or another, by a counter in
    shared memory (https://sqlite.org/pragma.html#pragma_data_version): microseconds, and never a wait.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._answers: OrderedDict[Hashable, tuple[int, Any]] = OrderedDict()

    def version(self) -> int | None:
        """Changes with every commit; None where it can't be told, and nothing should be kept."""
        try:
            if self._connection is None:
                # Read-only, and closed from another thread at most.
                address = f"{self._path.absolute().as_uri()}?mode=ro"
                self._connection = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error:
            return None

    def find(self, key: Hashable, version: int | None) -> Any | None:
        """What is kept under a key for this version; None if nothing is."""
        kept = self._answers.get(key)
        if kept is None or version is None or kept[0] != version:
            return None
        self._answers.move_to_end(key)
        return kept[1]

    def keep(self, key: Hashable, version: int | None, answer: Any) -> None:
        """Keeps what was read after the version was asked for."""
        if version is None or answer is None:
            return
        self._answers[key] = (version, answer)
        self._answers.move_to_end(key)
        if len(self._answers) > KEPT:
            self._answers.popitem(last=False)

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
