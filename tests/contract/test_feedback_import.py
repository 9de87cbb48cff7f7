"""Reviews from Lyra's database and from files, through the command line, to a real server."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lyra_database
import pytest
from lyra_adapters import RecordedReview
from lyra_adapters.cli import main
from lyra_database import correction
from server_process import ServerProcess

GOOD = {"premise": "p", "hypothesis": "h", "correct_label": "SUPPORTS"}


@pytest.fixture(autouse=True)
def at_the_server(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("LYRA_ADAPTERS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LYRA_ADAPTERS_SERVER", server.address)


def run(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    """Runs a command that must succeed; returns its JSON."""
    capsys.readouterr()
    status = main([*args, "--json"])
    shown = capsys.readouterr()
    assert status == 0, shown.err
    found: dict[str, Any] = json.loads(shown.out)
    return found


def recorded(server: ServerProcess, *domains: str) -> list[RecordedReview]:
    return list(server.client.feedback(domains=domains, page_size=1000))


def as_sent(number: int) -> tuple[Any, ...]:
    """What a correction must have become."""
    row = correction(number)
    time = datetime.fromisoformat(str(row["corrected_at"])).astimezone(UTC)
    labels = (str(row["correct_label"]).upper(), str(row["predicted_label"]).upper())
    texts = (row["id"], row["premise"], row["hypothesis"], row["task_id"], f"page_{number // 7}")
    return (*texts, *labels, row["predicted_confidence"], time)


def as_recorded(found: RecordedReview) -> tuple[Any, ...]:
    sample = found.review.sample
    texts = (sample.id, sample.premise, sample.hypothesis, found.review.task_id, sample.group)
    return (
        *texts,
        sample.correct_label,
        sample.original_label,
        sample.original_confidence,
        found.review.review_time,
    )


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_10_000_rows_while_another_process_writes(
    journal: str, server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count = 10_000 if journal == "WAL" else 2_000
    domain = f"import {journal}"
    prefix = f"{journal}:"
    path = lyra_database.make(tmp_path / "lyra.db", count, journal=journal)
    command = ["feedback", "import", str(path), "--domain", domain, "--prefix", prefix]
    writer = subprocess.Popen(
        [sys.executable, lyra_database.__file__, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdin
    assert writer.stdout
    assert writer.stdout.readline() == "writing\n"
    first = run(capsys, *command)
    written = int(writer.communicate(timeout=60)[0])
    assert written > 5, "the other process hardly wrote"
    assert first["stored"] >= count
    assert (first["unchanged"], first["revised"], first["skipped"]) == (0, 0, 0)

    second = run(capsys, *command)
    assert (second["stored"], second["revised"]) == (count + written - first["stored"], 0)
    third = run(capsys, *command)
    assert (third["stored"], third["revised"], third["unchanged"]) == (0, 0, count + written)

    found = recorded(server, domain)
    ids = Counter(one.review.sample.id for one in found)
    assert set(ids.values()) == {1}
    expected = {(prefix + sent[0], *sent[1:]) for sent in map(as_sent, range(count))}
    assert expected <= {as_recorded(one) for one in found}
    assert len(found) == count + written
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM nli_corrections").fetchone() == (count + written,)


def test_an_older_database_confirmations_and_what_changed_since(
    server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lyra_database.make(tmp_path / "old.db", 30, hypothesis="hypothesis")
    with sqlite3.connect(path) as connection:
        for number in range(5):
            lyra_database.confirm(connection, number)
        connection.execute("INSERT INTO edges (id, relation, edge_human_corrected) VALUES ('cites', 'cites', 1)")
        connection.execute(
            "INSERT INTO edges (id, relation, source_id, edge_human_corrected) VALUES ('gone', 'refutes', 'none', 1)"
        )
    command = ["feedback", "import", str(path), "--domain", "older", "--prefix", "old:"]
    assert run(capsys, *command, "--no-confirmations")["stored"] == 30
    assert main(command) == 0
    shown = capsys.readouterr()
    assert "5 stored, 0 revised, 30 already there" in shown.out
    assert "1 reviewed edges were left out" in shown.err
    confirmed = [one for one in recorded(server, "older") if "edge:" in one.review.sample.id]
    assert {as_recorded(one)[1:] for one in confirmed} == {
        (
            *(f"Right {n}", f"Confirmed claim {n}", "task_c", f"page_c{n}", "SUPPORTS", "SUPPORTS", 0.75),
            datetime(2026, 2, 1, tzinfo=UTC),
        )
        for n in range(5)
    }
    with sqlite3.connect(path) as connection:
        connection.execute(
            "UPDATE nli_corrections SET correct_label = 'NEUTRAL', corrected_at = '2026-03-01T00:00:00Z' "
            "WHERE id = 'nlc_000006'"
        )
    assert run(capsys, *command, "--since", "2026-02-15") == {"stored": 0, "unchanged": 0, "revised": 1, "skipped": 0}
    (found,) = [one for one in recorded(server, "older") if one.review.sample.id == "old:nlc_000006"]
    assert (found.revision, found.review.sample.correct_label) == (2, "NEUTRAL")


def test_json_lines_and_csv_and_the_way_back(
    server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {**GOOD, "id": "j1", "premise": 'a "quoted", text\nof two lines', "label": "SUPPORTS", "domain": "files"},
        {
            **{"id": "j2", "premise": "日本語", "nli_hypothesis": "h", "correct_label": "contradiction"},
            **{"predicted_label": "Entailment", "predicted_confidence": 0.25, "group": "g", "task_id": "own"},
            "corrected_at": "2026-01-31T12:00:00+09:00",
        },
    ]
    lines = tmp_path / "rows.jsonl"
    lines.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    assert run(capsys, "feedback", "import", str(lines), "--domain", "files", "--task-id", "t")["stored"] == 2
    header = ["id", "premise", "hypothesis", "correct_label", "original_label", "original_confidence", "group"]
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerows(
        [
            [*header, "task_id", "domain", "review_time"],
            ["j1", 'a "quoted", text\nof two lines', "h", "supports", "", "", "", "t", "files", ""],
            ["j2", "日本語", "h", "REFUTES", "SUPPORTS", "0.25", "g", "own", "files", "2026-01-31 03:00:00"],
        ]
    )
    tabled = tmp_path / "rows.csv"
    tabled.write_bytes(b"\xef\xbb\xbf" + table.getvalue().encode())
    # The same reviews in another form are the same reviews.
    assert run(capsys, "feedback", "import", str(tabled)) == {"stored": 0, "unchanged": 2, "revised": 0, "skipped": 0}

    out = tmp_path / "out.jsonl"
    assert run(capsys, "feedback", "export", str(out), "--domain", "files")["reviews"] == 2
    assert out.stat().st_mode & 0o777 == 0o600
    exported = {row["id"]: row for row in map(json.loads, out.read_text().splitlines())}
    assert exported["j2"] == {
        **{"id": "j2", "premise": "日本語", "hypothesis": "h", "correct_label": "REFUTES", "domain": "files"},
        **{"original_label": "SUPPORTS", "original_confidence": 0.25, "group": "g", "task_id": "own"},
        "review_time": "2026-01-31T03:00:00Z",
    }
    assert run(capsys, "feedback", "import", str(out))["unchanged"] == 2
    assert main(["feedback", "export", "--domain", "files", "--task-id", "own"]) == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == ["j2"]

    counted = run(capsys, "feedback", "stats", "--domain", "files")
    assert (counted["reviews"], counted["samples"], counted["corrections"]) == (2, 2, 1)
    assert counted["training_due"]["user_feedback"]["need_samples"] == 50
    assert main(["feedback", "stats"]) == 0
    assert "user_feedback: " in capsys.readouterr().out
    assert main(["feedback", "stats", "--domain", "nothing"]) == 0
    assert "No feedback matches." in capsys.readouterr().out


def test_bad_rows_stop_an_import_or_are_left_out(
    server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lyra_database.make(tmp_path / "bad.db", 1_200)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE nli_corrections SET correct_label = 'cites' WHERE id = 'nlc_001100'")
        connection.execute("UPDATE nli_corrections SET premise = ' ' WHERE id = 'nlc_001150'")
    command = ["feedback", "import", str(path), "--domain", "bad", "--prefix", "bad:", "--no-confirmations"]
    assert main(command) == 3
    shown = capsys.readouterr().err
    assert "nli_corrections row 1101: correct_label is 'cites'" in shown
    assert "1,000 reviews before it are stored" in shown
    # Whole pages only.
    assert server.client.list_feedback(domains=["bad"]).total_size == 1_000
    assert main([*command, "--skip-invalid"]) == 0
    shown_skipped = capsys.readouterr()
    assert "198 stored, 0 revised, 1000 already there, 2 left out" in shown_skipped.out
    assert "row 1101: correct_label is 'cites'" in shown_skipped.err
    assert "row 1151: premise is required" in shown_skipped.err
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE nli_corrections SET correct_label = 'neutral' WHERE id = 'nlc_001100'")
    assert main(command) == 3
    assert "reviews[150] (nli_corrections row 1151).sample.premise" in capsys.readouterr().err


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def truncated(path: Path) -> Path:
    lyra_database.make(path, 500, journal="DELETE")
    return write(path, path.read_bytes()[:20_000])


def without(path: Path, statement: str) -> Path:
    lyra_database.make(path, 3)
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    return path


@pytest.mark.parametrize(
    ("make", "status", "says"),
    [
        (lambda d: d / "nowhere.db", 2, "No such file"),
        (lambda d: write(d / "text.db", "no database"), 2, "is no SQLite database"),
        (lambda d: write(d / "head.db", b"SQLite format 3\0" + b"x" * 4096), 2, "can't be read as a SQLite database"),
        (lambda d: truncated(d / "cut.db"), 2, "can't be read as a SQLite database"),
        (lambda d: without(d / "t.db", "DROP TABLE nli_corrections"), 3, "has no table nli_corrections"),
        (
            lambda d: without(d / "c.db", "ALTER TABLE nli_corrections DROP COLUMN correct_label"),
            3,
            "lacks the column correct_label",
        ),
        (
            lambda d: without(d / "h.db", "ALTER TABLE nli_corrections DROP COLUMN nli_hypothesis"),
            3,
            "lacks the column hypothesis (or nli_hypothesis)",
        ),
        (
            lambda d: without(d / "time.db", "UPDATE nli_corrections SET corrected_at = 'yesterday'"),
            3,
            "row 1: review_time is no time",
        ),
        (lambda d: write(d / "a.csv", "premise,label\np,SUPPORTS\n"), 3, "lacks the column hypothesis"),
        (lambda d: write(d / "b.csv", "premise,hypothesis,label\np,h\n"), 3, "line 2: has 2 cells; the header has 3"),
        (lambda d: write(d / "c.csv", "premise,hypothesis,label\np,h,maybe\n"), 3, "line 2: correct_label is 'maybe'"),
        (lambda d: write(d / "d.csv", 'premise,hypothesis,label\n"p,h,SUPPORTS\n'), 3, "is no CSV"),
        (
            lambda d: write(d / "e.csv", "premise,hypothesis,label,correct_label\np,h,SUPPORTS,SUPPORTS\n"),
            3,
            "more than one column for correct_label",
        ),
        (
            lambda d: write(d / "f.csv", "premise,hypothesis,label,original_confidence\np,h,SUPPORTS,x\n"),
            3,
            "must be float",
        ),
        (lambda d: write(d / "g.csv", ""), 3, "lacks the columns premise, hypothesis"),
        (lambda d: write(d / "h.csv", "premise,hypothesis,label\n"), 3, "has no rows"),
        (lambda d: write(d / "i.csv", b"\xff"), 3, "is not UTF-8"),
        (lambda d: write(d / "a.jsonl", '{"premise": "p"}\n'), 3, "line 1: hypothesis is missing"),
        (lambda d: write(d / "b.jsonl", json.dumps(GOOD) + "\n{\n"), 3, "line 2: is not JSON"),
        (lambda d: write(d / "c.jsonl", "\n"), 3, "has no rows"),
    ],
)
def test_bad_sources_are_refused_in_words(
    make: Any, status: int, says: str, server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = server.client.list_feedback().total_size
    assert main(["feedback", "import", str(make(tmp_path))]) == status
    shown = capsys.readouterr().err
    assert says in shown
    assert "Traceback" not in shown
    assert server.client.list_feedback().total_size == before


def test_the_database_is_only_read(server: ServerProcess, tmp_path: Path) -> None:
    path = lyra_database.make(tmp_path / "lyra.db", 3, journal="DELETE")
    before = path.read_bytes()
    path.chmod(0o400)
    assert main(["feedback", "import", str(path), "--domain", "read only", "--prefix", "ro:"]) == 0
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["lyra.db"]


def test_add_reads_standard_input(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(json.dumps({**GOOD, "id": f"add-{n}", "premise": f"add {n}"}) + "\n" for n in range(3))
    for stored in (3, 0):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(rows.encode())))
        found = run(capsys, "feedback", "add", "-", "--task-id", "t")
        assert (found["stored"], found["unchanged"], found["ids"]) == (stored, 3 - stored, ["add-0", "add-1", "add-2"])
