"""A database with the columns of Lyra's, and a process that writes to it as Lyra does.

Run as a script, it is that process: `python lyra_database.py PATH` writes until its standard input closes.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
from pathlib import Path

SCHEMA = """
CREATE TABLE fragments (id TEXT PRIMARY KEY, page_id TEXT NOT NULL, text_content TEXT NOT NULL);
CREATE TABLE claims (id TEXT PRIMARY KEY, task_id TEXT, claim_text TEXT NOT NULL);
CREATE TABLE edges (
    id TEXT PRIMARY KEY, source_type TEXT, source_id TEXT, target_type TEXT, target_id TEXT, relation TEXT,
    nli_label TEXT, nli_edge_confidence REAL, edge_human_corrected BOOLEAN DEFAULT 0, edge_corrected_at TEXT
);
CREATE TABLE nli_corrections (
    id TEXT PRIMARY KEY, edge_id TEXT NOT NULL, task_id TEXT, premise TEXT NOT NULL, {hypothesis} TEXT NOT NULL,
    predicted_label TEXT NOT NULL, predicted_confidence REAL NOT NULL, correct_label TEXT NOT NULL, reason TEXT,
    corrected_at TEXT NOT NULL, trained_adapter_id INTEGER
);
"""
LABELS = ("supports", "refutes", "neutral")


def correction(number: int) -> dict[str, object]:
    """The values of a row of nli_corrections."""
    return {
        "id": f"nlc_{number:06d}",
        "edge_id": f"edge_{number}",
        "task_id": f"task_{number % 5}",
        "premise": f"Fragment {number} says 「something」 about sleep.",
        "hypothesis": f"Claim {number}",
        "predicted_label": LABELS[number % 3],
        "predicted_confidence": round(0.5 + number % 50 / 100, 2),
        "correct_label": LABELS[(number + 1) % 3],
        "reason": "because",
        "corrected_at": f"2026-01-{1 + number % 28:02d}T12:00:{number % 60:02d}.{number % 1000:03d}+00:00",
    }


def insert(connection: sqlite3.Connection, number: int) -> None:
    """Inserts a correction with its edge, fragment and claim, as Lyra has them."""
    row = correction(number)
    connection.execute("INSERT INTO fragments VALUES (?, ?, ?)", (f"f_{number}", f"page_{number // 7}", row["premise"]))
    connection.execute("INSERT INTO claims VALUES (?, ?, ?)", (f"c_{number}", row["task_id"], row["hypothesis"]))
    connection.execute(
        "INSERT INTO edges VALUES (?, 'fragment', ?, 'claim', ?, ?, ?, 1.0, 1, ?)",
        (row["edge_id"], f"f_{number}", f"c_{number}", row["correct_label"], row["correct_label"], row["corrected_at"]),
    )
    connection.execute(f"INSERT INTO nli_corrections VALUES ({', '.join('?' * 10)}, NULL)", tuple(row.values()))


def confirm(connection: sqlite3.Connection, number: int, label: str = "supports") -> None:
    """Inserts an edge that was reviewed and found right."""
    connection.execute("INSERT INTO fragments VALUES (?, ?, ?)", (f"cf_{number}", f"page_c{number}", f"Right {number}"))
    connection.execute("INSERT INTO claims VALUES (?, 'task_c', ?)", (f"cc_{number}", f"Confirmed claim {number}"))
    connection.execute(
        "INSERT INTO edges VALUES (?, 'fragment', ?, 'claim', ?, ?, ?, 0.75, 1, '2026-02-01 00:00:00')",
        (f"ce_{number}", f"cf_{number}", f"cc_{number}", label, label),
    )


def make(path: Path, count: int, *, hypothesis: str = "nli_hypothesis", journal: str = "WAL") -> Path:
    """Writes a database with `count` corrections."""
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode={journal}")
    connection.executescript(SCHEMA.format(hypothesis=hypothesis))
    for number in range(count):
        insert(connection, number)
    connection.commit()
    connection.close()
    return path


def write_until_told(path: Path) -> None:
    """Inserts corrections and changes edges, a transaction each, until standard input closes; prints how many."""
    told = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), told.set()), daemon=True).start()
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    number = 1_000_000
    print("writing", flush=True)
    while not told.wait(0.01):
        connection.execute("BEGIN IMMEDIATE")
        insert(connection, number)
        connection.execute("UPDATE edges SET nli_label = nli_label WHERE id = ?", (f"edge_{number % 1000}",))
        connection.execute("COMMIT")
        number += 1
    connection.close()
    print(number - 1_000_000, flush=True)


if __name__ == "__main__":
    write_until_told(Path(sys.argv[1]))
