from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from lyra_adapters_server.config import ConfigError, Settings
from lyra_adapters_server.feedback.general import GeneralRowsUnusable, read_rows, shipped_rows
from lyra_adapters_server.feedback.split import clusters
from lyra_adapters_server.registry.anchor import MIN_ANCHOR_ROWS
from lyra_adapters_server.service.general_rows import general_rows
from lyra_adapters_server.types import LABELS


def test_shipped_rows_are_balanced_and_no_document_serves_both_ends() -> None:
    rows = shipped_rows()
    assert len(rows.anchor) >= 100
    for some in (rows.anchor, rows.replay):
        assert set(Counter(row.correct_label for row in some).values()) == {len(some) // 3}
    both = [*rows.anchor, *rows.replay]
    assert len({row.id for row in both}) == len(both)
    # No premise or pair occurs in two documents.
    assert len(clusters(both)) == len({row.group for row in both})
    assert {row.group for row in rows.anchor}.isdisjoint({row.group for row in rows.replay})


def line(number: int, **fields: str) -> str:
    row = {"premise": f"p{number // 3}", "hypothesis": f"h{number}", "label": LABELS[number % 3].lower()}
    return json.dumps({**row, **fields}) + "\n"


def test_own_rows_take_their_place(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(map(line, range(90))))
    rows = read_rows(path, 40)
    assert len(rows.anchor) + len(rows.replay) == 90
    assert len(rows.replay) == pytest.approx(30, abs=12)
    assert {row.group for row in rows.anchor}.isdisjoint({row.group for row in rows.replay})


def test_rows_that_are_added_or_moved_leave_the_others_where_they_were(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(map(line, range(90))))
    before = {row.premise for row in read_rows(path, 40).replay}
    path.write_text("".join(line(number) for number in reversed(range(120))))
    after = read_rows(path, 40)
    assert before == {row.premise for row in after.replay} & {f"p{number}" for number in range(30)}


def test_a_row_without_an_id_is_the_same_row_wherever_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(map(line, range(90))))
    before = {row.id: row for row in read_rows(path, 40).anchor}
    # Twice the same is once.
    path.write_text("".join(line(number) for number in (200, 201, *range(90), 5)))
    after = read_rows(path, 40)
    assert before.items() <= {row.id: row for row in after.anchor}.items()
    assert len(after.anchor) + len(after.replay) == 92


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("nonsense\n", "line 1 is no JSON object"),
        (line(0) + "[]\n", "line 2 is no JSON object"),
        ('{"premise": "p", "hypothesis": "h", "label": "PERHAPS"}\n', "line 1 lacks a usable correct_label"),
        ('{"premise": "p", "label": "NEUTRAL"}\n', "hypothesis"),
        ('{"premise": "p", "hypothesis": "h", "label": "NEUTRAL"}\n', "no row labelled SUPPORTS, REFUTES"),
        ("", "SUPPORTS"),
        ("".join(line(3 * number + number % 2) for number in range(90)), "no row labelled NEUTRAL"),
        ("".join(map(line, range(4))), "has 4 rows, of which . anchor the gate .*at least 40 must"),
        ("".join(map(line, range(45))), "has 45 rows, of which .*at least 40 must"),
        (line(0, id="a") + "\n" + line(1, id="b") + line(2, id="a"), "line 4 has the id of line 1"),
    ],
)
def test_unusable_files_are_refused_with_the_reason(content: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(GeneralRowsUnusable, match=f"rows.jsonl.* {says}"):
        read_rows(path, 40)
    path.write_bytes(b"\xff")
    with pytest.raises(GeneralRowsUnusable, match="not UTF-8"):
        read_rows(path, 40)
    with pytest.raises(GeneralRowsUnusable, match="can't be read"):
        read_rows(tmp_path / "missing.jsonl", 40)


def test_the_server_asks_for_as_many_rows_as_an_anchor_needs(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(map(line, range(4))))
    settings = Settings(base_model=[f"tiny={tmp_path}"], general_rows={"tiny": path})
    with pytest.raises(ConfigError, match=f"rows.jsonl has 4 rows.*at least {MIN_ANCHOR_ROWS} must"):
        general_rows(settings)
