from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from lyra_adapters_server.feedback.general import GeneralRowsUnusable, read_rows, shipped_rows
from lyra_adapters_server.feedback.split import clusters
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


def test_own_rows_take_their_place(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [{"premise": f"p{n // 3}", "hypothesis": f"h{n}", "label": LABELS[n % 3].lower()} for n in range(18)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = read_rows(path)
    assert (len(rows.anchor), len(rows.replay)) == (12, 6)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("nonsense\n", "JSON Lines"),
        ('{"premise": "p", "hypothesis": "h", "label": "PERHAPS"}\n', "correct_label"),
        ('{"premise": "p", "label": "NEUTRAL"}\n', "hypothesis"),
        ('{"premise": "p", "hypothesis": "h", "label": "NEUTRAL"}\n', "SUPPORTS"),
        ("", "SUPPORTS"),
    ],
)
def test_unusable_files_are_refused_with_the_reason(content: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(GeneralRowsUnusable, match=says):
        read_rows(path)
    with pytest.raises(GeneralRowsUnusable, match="can't be read"):
        read_rows(tmp_path / "missing.jsonl")
