"""What a report tells of rows whose texts are gone, or are others by now."""

from lyra_adapters.v1 import adapter_service_pb2 as pb
from lyra_adapters_server.feedback.general import GeneralRows, shipped_rows
from lyra_adapters_server.service.report import _Found, _rows
from lyra_adapters_server.types import LABELS

SURE = [0.8, 0.1, 0.1]


def told(scores: dict[str, object], general: GeneralRows) -> list[pb.ReportRow]:
    # Only the rows are looked at.
    return list(_rows(_Found(version=None, scores=scores, held_out={}), general))  # type: ignore[arg-type]


def test_without_its_text_a_row_still_says_what_was_corrected() -> None:
    rows = [
        {"id": "a", "label": "SUPPORTS", "original": "REFUTES", "champion": SURE, "challenger": SURE},
        {"id": "b", "label": "SUPPORTS", "original": None, "champion": SURE, "challenger": SURE},
        # Stored by an earlier release.
        {"id": "c", "label": "SUPPORTS", "champion": SURE, "challenger": SURE},
    ]
    found = told({"held_out": rows, "general": [], "excluded": []}, shipped_rows())
    assert [row.sample.original_label for row in found] == [
        pb.LABEL_REFUTES,
        pb.LABEL_UNSPECIFIED,
        pb.LABEL_UNSPECIFIED,
    ]
    assert {row.sample.correct_label for row in found} == {pb.LABEL_SUPPORTS}


def test_a_general_row_that_is_labelled_otherwise_by_now_is_shown_without_text() -> None:
    anchor = shipped_rows().anchor
    stored = [{"id": row.id, "label": row.correct_label, "champion": SURE, "challenger": SURE} for row in anchor[:2]]
    changed = anchor[0].model_copy(
        update={"correct_label": LABELS[(LABELS.index(anchor[0].correct_label) + 1) % 3], "premise": "another"}
    )
    scores = {"held_out": [], "general": stored, "excluded": []}
    first, second = told(scores, GeneralRows(anchor=(changed, *anchor[1:]), replay=()))
    assert (first.sample.premise, second.sample.premise) == ("", anchor[1].premise)
    assert pb.Label.Name(first.sample.correct_label) == f"LABEL_{anchor[0].correct_label}"
