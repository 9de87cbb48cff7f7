"""The scores of a report leave out the rows that the verdict leaves out."""

import pytest
from lyra_adapters_server.service.report import judged_metrics

SUPPORTS, REFUTES = [0.8, 0.1, 0.1], [0.1, 0.8, 0.1]
SCORES = {
    "held_out": [
        {"id": "a", "label": "SUPPORTS", "champion": SUPPORTS, "challenger": SUPPORTS},
        {"id": "b", "label": "SUPPORTS", "champion": REFUTES, "challenger": SUPPORTS},
        {"id": "c", "label": "REFUTES", "champion": REFUTES, "challenger": SUPPORTS},
    ],
    "general": [],
    "excluded": [2],
}
OF_ALL = {"temperature": 1.5}


def test_scores_are_on_the_rows_that_neither_has_trained_on() -> None:
    before = judged_metrics(SCORES, "champion", OF_ALL)
    after = judged_metrics(SCORES, "challenger", OF_ALL)
    assert before is not None
    assert after is not None
    assert (before.samples, before.accuracy, after.samples, after.accuracy) == (2, 0.5, 2, 1.0)
    assert (after.confusion.supports.supports, after.confusion.refutes.supports) == (2, 0)
    assert after.brier == pytest.approx(0.06)
    assert after.temperature == 1.5


def test_without_a_row_there_are_none() -> None:
    assert judged_metrics({**SCORES, "excluded": [0, 1, 2]}, "champion", OF_ALL) is None
    assert judged_metrics({"held_out": [], "general": [], "excluded": []}, "champion", None) is None
