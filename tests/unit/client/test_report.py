"""The report: its numbers follow from the rows, its page escapes texts and needs no other file."""

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
from lyra_adapters.cli import main
from lyra_adapters.cli.report.charts import image
from lyra_adapters.cli.report.figures import Figures, figures, reliability
from lyra_adapters.cli.report.page import page
from lyra_adapters.models import (
    AdapterVersion,
    Comparison,
    Interval,
    Label,
    LoraConfig,
    Probabilities,
    Progress,
    Report,
    ReportRow,
    Sample,
    TrainEvent,
    Verdict,
    VerdictOutcome,
)
from lyra_adapters.testing import FakeAdapterServer, training_script
from lyra_adapters.testing.script import AFTER, BEFORE
from lyra_adapters.v1 import adapter_service_pb2 as pb

LABELS = tuple(Label)


def probabilities(label: Label, sure: float = 0.8) -> Probabilities:
    rest = (1 - sure) / 2
    return Probabilities(**{one.lower(): sure if one is label else rest for one in LABELS})


def row(
    number: int, correct: int, original: int | None, before: int, after: int, *, text: str = "", general: bool = False
) -> ReportRow:
    return ReportRow(
        sample=Sample(
            id=f"r{number}",
            premise=text or f"The premise of row {number}.",
            hypothesis=text or f"The claim of row {number}.",
            correct_label=LABELS[correct],
            original_label=None if original is None else LABELS[original],
        ),
        champion=probabilities(LABELS[before], 0.9),
        challenger=probabilities(LABELS[after]),
        general=general,
    )


def version(**changes: object) -> AdapterVersion:
    compared = Comparison(
        rows=60,
        accuracy_difference=Interval(value=0.2, low=0.08, high=0.32),
        brier_difference=Interval(value=-0.2, low=-0.3, high=-0.1),
    )
    verdict = Verdict(
        outcome=VerdictOutcome.NOT_WORSE,
        champion="base",
        explanation="Not worse: on 60 held-out reviews.",
        activated=True,
        held_out=compared,
        anchor=replace(compared, rows=108),
        general_rows_decided=True,
    )
    found = AdapterVersion(
        adapter="sleep",
        version="v1",
        name="sleep_v1",
        base_model="demo",
        metrics_before=BEFORE,
        metrics_after=AFTER,
        verdict=verdict,
        lora=LoraConfig(rank=8, alpha=16.0, target_modules=("q_proj", "v_proj")),
        sha256="0" * 64,
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def made(rows: list[ReportRow]) -> Figures:
    events = [
        TrainEvent(job_id="j", sequence=n, time=None, event=event) for n, event in enumerate(training_script(), start=1)
    ]
    told = Report(version=version(), rows=tuple(rows), champion_metrics=BEFORE, challenger_metrics=AFTER)
    return figures(told, events)


ROWS = [
    row(0, correct=0, original=1, before=1, after=0),
    row(1, correct=0, original=2, before=2, after=1),
    row(2, correct=1, original=1, before=1, after=2),
    row(3, correct=2, original=2, before=2, after=2),
    row(4, correct=2, original=None, before=2, after=0, general=True),
]


def test_rows_stand_in_the_lists_they_belong_to() -> None:
    found = made(ROWS)
    assert [one.hypothesis[-2] for one in found.now_right] == ["0"]
    assert [one.hypothesis[-2] for one in found.still_wrong] == ["1"]
    assert [one.hypothesis[-2] for one in found.broken] == ["2", "4"]
    assert len(made([replace(one, excluded=True) for one in ROWS]).broken) == 0


def test_what_was_right_already_is_counted_apart() -> None:
    kept = row(5, correct=0, original=1, before=0, after=0)
    found = made([*ROWS, kept, row(6, correct=0, original=1, before=0, after=1)])
    assert [one.hypothesis[-2] for one in found.now_right] == ["0"]
    assert [one.hypothesis[-2] for one in found.still_wrong] == ["1"]
    assert [one.hypothesis[-2] for one in found.broken] == ["2", "4", "6"]
    assert "Right already, and still: 1 more." in page(found)
    assert "Right already" not in page(made(ROWS))


def test_rows_left_out_of_the_verdict_are_said_beside_the_scores() -> None:
    found = made([*ROWS, replace(ROWS[0], excluded=True)])
    assert "On 20 held-out rows (left out, since one of the two has trained on them: 1)" in page(found)
    # Without any there are no scores.
    other = figures(Report(version=version()), [])
    assert (other.scores, other.confusions, other.recalls) == ([], None, None)


def test_confusion_recall_and_curve_are_those_of_the_version() -> None:
    found = made(ROWS)
    assert found.confusions is not None
    assert found.confusions[1] == [[6, 0, 1], [1, 5, 1], [0, 1, 5]]
    assert found.recalls is not None
    assert found.recalls[1][0] == pytest.approx(6 / 7)
    assert [step for step, _ in found.curves[0].training] == [1, 2, 3, 4]
    assert found.best_step == 4


def test_steps_that_are_told_twice_after_an_interruption_are_drawn_once() -> None:
    script = training_script()
    told = [one for one in script if isinstance(one, Progress)]
    events = [TrainEvent(job_id="j", sequence=0, time=None, event=one) for one in (*script, *told[1:3])]
    found = figures(Report(version=version()), events)
    assert [step for step, _ in found.curves[0].training] == [1, 2, 3, 4]


def test_weighted_differences_and_too_few_rows_for_a_calibration_error_are_told() -> None:
    compared = Comparison(rows=19, accuracy_difference=Interval(), brier_difference=Interval(), weighted=True)
    verdict = Verdict(outcome=VerdictOutcome.UNDECIDED, held_out=compared)
    few = replace(AFTER, samples=19)
    found = figures(Report(version=version(verdict=verdict), champion_metrics=few, challenger_metrics=few), [])
    assert "Accuracy, 19 held-out reviews, weighted" in [one.name for one in found.differences]
    assert "Calibration error" not in [name for name, _, _ in found.scores]
    assert "Calibration error" in [name for name, _, _ in made(ROWS).scores]


def test_reliability_of_honest_probabilities_lies_on_the_diagonal() -> None:
    generator = random.Random(0)
    rows = []
    for _ in range(4000):
        sure = generator.uniform(0.4, 1.0)
        right = generator.random() < sure
        rows.append((probabilities(Label.SUPPORTS, sure), Label.SUPPORTS if right else Label.NEUTRAL))
    bins = reliability(rows)
    assert len(bins) == 10
    assert {one.rows for one in bins} == {400}
    assert all(abs(one.confidence - one.right) < 0.08 for one in bins)
    assert len(reliability(rows[:25])) == 2
    assert reliability([]) == []


def test_the_page_escapes_texts_and_loads_nothing() -> None:
    text = "<script>alert(1)</script> & 睡眠 {{ 7 * 7 }}"
    html = page(made([*ROWS, row(9, correct=0, original=1, before=1, after=0, text=text)]))
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; 睡眠 {{ 7 * 7 }}" in html
    # Everything is in the file: no address is loaded, whether by attribute, style or script.
    assert not re.search(r'(src|href|url\()\s*=?\s*["\']?(https?:|//)', html)
    assert html.count("<svg") == 6
    assert "Corrections it now gets right: 2" in html


def test_texts_that_were_deleted_leave_the_numbers() -> None:
    bare = [
        replace(one, sample=Sample(premise="", hypothesis="", correct_label=one.sample.correct_label)) for one in ROWS
    ]
    html = page(replace(made(bare), texts_deleted=True))
    assert "(text deleted)" in html
    assert "have been deleted" in html


def test_the_image_is_written(tmp_path: Path) -> None:
    path = tmp_path / "report.png"
    image(made(ROWS), path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_version_without_held_out_rows_has_a_page(tmp_path: Path) -> None:
    bare = version(metrics_before=None, metrics_after=None, verdict=None)
    found = figures(Report(version=bare), [])
    assert "sleep_v1" in page(found)
    image(found, tmp_path / "report.png")


def test_the_command_writes_both_and_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeAdapterServer() as fake:
        fake.add_job(training_script(adapter="sleep"))
        for one in ROWS * 30:
            fake.report_rows.append(_message(one))
        html, png = tmp_path / "r.html", tmp_path / "r.png"
        arguments = ["report", "sleep", "v1", "--server", fake.target, "--html", str(html), "--png", str(png)]
        assert main(arguments) == 0
        said = capsys.readouterr().out
        assert "Corrections it now gets right: 30" in said
        assert str(html) in said
        assert html.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
        assert png.exists()
        assert main(arguments) == 2
        assert "--force" in capsys.readouterr().err
        assert main(["report", "sleep", "v1", "--server", fake.target, "--json"]) == 0
        assert '"general": true' in capsys.readouterr().out
        assert main(["report", "sleep", "v7", "--server", fake.target]) != 0


def _message(one: ReportRow) -> pb.ReportRow:
    from lyra_adapters.convert import encode

    found: pb.ReportRow = encode(one)
    return found
