"""What a report says, as numbers: computed once, shown by the page, the image and the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

from lyra_adapters.models import (
    AdapterVersion,
    Comparison,
    Confusion,
    Evaluation,
    EvaluationStage,
    Interval,
    Label,
    Metrics,
    Probabilities,
    Progress,
    Report,
    ReportRow,
    TrainEvent,
)

T = TypeVar("T")

LABELS = tuple(Label)
# Bins of a reliability diagram: by equal counts, so that none is empty, and of no fewer rows than this.
_BINS = 10
_LEAST_BIN = 10


@dataclass(frozen=True)
class Curve:
    """The losses of one training: (step, loss) while it trained, and on rows that it did not train on."""

    name: str
    training: list[tuple[int, float]]
    validation: list[tuple[int, float]]


@dataclass(frozen=True)
class Bin:
    """Rows of like confidence: the mean probability of their predicted labels, and the share that is right."""

    confidence: float
    right: float
    rows: int


@dataclass(frozen=True)
class Difference:
    """A difference between champion and challenger with its interval, for display."""

    name: str
    interval: Interval
    # Whether larger is better.
    upwards: bool


@dataclass(frozen=True)
class Row:
    """A row with what both models say of it."""

    premise: str
    hypothesis: str
    correct: Label
    before: Label
    after: Label
    # Probability that the version gives its answer.
    confidence: float
    general: bool


@dataclass(frozen=True)
class Figures:
    """Everything that is shown of a version."""

    version: AdapterVersion
    curves: list[Curve]
    best_step: int
    confusions: tuple[list[list[int]], list[list[int]]] | None
    recalls: tuple[list[float | None], list[float | None]] | None
    reliability: tuple[list[Bin], list[Bin]]
    differences: list[Difference]
    # Scores on the held-out rows, but for those left out because one of the two has trained on them.
    before: Metrics | None = None
    after: Metrics | None = None
    left_out: int = 0
    now_right: list[Row] = field(default_factory=list)
    # Corrections that what was in force had right already, and the version has too.
    still_right: int = 0
    still_wrong: list[Row] = field(default_factory=list)
    broken: list[Row] = field(default_factory=list)
    texts_deleted: bool = False

    @property
    def rows(self) -> str:
        """How many held-out rows the scores are on, in words."""
        left_out = f" (left out, since one of the two has trained on them: {self.left_out})" if self.left_out else ""
        return f"{self.after.samples if self.after else 0} held-out rows{left_out}"

    @property
    def already(self) -> str:
        """What to say of corrections that were right already; empty without any."""
        return f"Right already, and still: {self.still_right} more." if self.still_right else ""

    @property
    def scores(self) -> list[tuple[str, float, float]]:
        """Name, before and after of each score on the held-out rows; empty where nothing was held out."""
        before, after = self.before, self.after
        if before is None or after is None:
            return []
        names = (
            ("Accuracy", "accuracy"),
            ("Macro-F1", "macro_f1"),
            ("Brier score", "brier"),
            ("Negative log-likelihood", "loss"),
            ("Calibration error", "calibration_error"),
        )
        return [
            (name, getattr(before, key), getattr(after, key))
            for name, key in names
            if key != "calibration_error" or after.calibration_known
        ]


def figures(report: Report, events: Iterable[TrainEvent]) -> Figures:
    """Computes them from the report and its job's events."""
    version = report.version
    before, after = report.champion_metrics, report.challenger_metrics
    judged = [row for row in report.rows if not row.excluded]
    held_out = [row for row in judged if not row.general]
    shown = [_row(row) for row in judged]
    corrections = [
        one
        for one, row in zip(shown, judged, strict=True)
        if row.sample.original_label not in (None, row.sample.correct_label) and not row.general
    ]
    curves, best_step = _curves(events)
    return Figures(
        version=version,
        curves=curves,
        best_step=best_step,
        confusions=_both(before, after, _table),
        recalls=_both(before, after, lambda found: _recall(_table(found))),
        reliability=(
            reliability([(row.champion, row.sample.correct_label) for row in held_out]),
            reliability([(row.challenger, row.sample.correct_label) for row in held_out]),
        ),
        differences=_differences(version),
        before=before,
        after=after,
        left_out=sum(row.excluded for row in report.rows),
        now_right=[row for row in corrections if row.before is not row.correct and row.after is row.correct],
        still_right=sum(row.before is row.correct and row.after is row.correct for row in corrections),
        still_wrong=[row for row in corrections if row.before is not row.correct and row.after is not row.correct],
        broken=[row for row in shown if row.before is row.correct and row.after is not row.correct],
        texts_deleted=report.texts_deleted,
    )


def reliability(rows: Sequence[tuple[Probabilities, Label]]) -> list[Bin]:
    """Bins of equal counts by the probability of the predicted label; fewer bins where rows are few."""
    told = sorted(((max(_triple(found)), _answer(found) is label) for found, label in rows), key=lambda one: one[0])
    bins = max(1, min(_BINS, len(told) // _LEAST_BIN))
    cuts = [len(told) * number // bins for number in range(bins + 1)]
    return [
        Bin(
            sum(confidence for confidence, _ in part) / len(part),
            sum(right for _, right in part) / len(part),
            len(part),
        )
        for start, end in pairwise(cuts)
        if (part := told[start:end])
    ]


def _curves(events: Iterable[TrainEvent]) -> tuple[list[Curve], int]:
    # By step: a training that was interrupted tells some of them twice.
    training: dict[str, dict[int, float]] = {}
    validation: dict[str, dict[int, float]] = {}
    best = 0
    for event in events:
        what = event.event
        name = getattr(what, "run_name", "")
        if isinstance(what, Progress):
            training.setdefault(name, {})[what.step] = what.loss
        elif isinstance(what, Evaluation) and what.metrics is not None:
            if what.stage is EvaluationStage.VALIDATION:
                validation.setdefault(name, {})[what.step] = what.metrics.loss
            elif what.stage is EvaluationStage.AFTER:
                best = what.step
    curves = [
        Curve(name, sorted(training.get(name, {}).items()), sorted(validation.get(name, {}).items()))
        for name in dict.fromkeys((*training, *validation))
    ]
    return curves, best


def _differences(version: AdapterVersion) -> list[Difference]:
    verdict = version.verdict
    if verdict is None:
        return []
    found: list[Difference] = []
    anchor = "general rows" if verdict.general_rows_decided else "reviews that no error chose"
    sets: list[tuple[str, Comparison | None]] = [("held-out reviews", verdict.held_out)]
    if verdict.anchor != verdict.held_out:
        sets.append((anchor, verdict.anchor))
    for name, compared in sets:
        if compared is not None:
            # Beside the scores, which are of the rows as they are.
            where = f"{compared.rows} {name}{', weighted' if compared.weighted else ''}"
            found.append(Difference(f"Accuracy, {where}", compared.accuracy_difference or Interval(), True))
            found.append(Difference(f"Brier score, {where}", compared.brier_difference or Interval(), False))
    return found


def _row(row: ReportRow) -> Row:
    return Row(
        premise=row.sample.premise,
        hypothesis=row.sample.hypothesis,
        correct=row.sample.correct_label,
        before=_answer(row.champion),
        after=_answer(row.challenger),
        confidence=max(_triple(row.challenger)),
        general=row.general,
    )


def _both(before: Metrics | None, after: Metrics | None, make: Callable[[Metrics], T]) -> tuple[T, T] | None:
    if before is None or after is None:
        return None
    return make(before), make(after)


def _table(found: Metrics) -> list[list[int]]:
    confusion = found.confusion or Confusion()
    names = [label.lower() for label in LABELS]
    return [[getattr(getattr(confusion, row), column) for column in names] for row in names]


def _recall(table: list[list[int]]) -> list[float | None]:
    return [row[index] / sum(row) if sum(row) else None for index, row in enumerate(table)]


def _triple(found: Probabilities) -> tuple[float, float, float]:
    return (found.supports, found.refutes, found.neutral)


def _answer(found: Probabilities) -> Label:
    row = _triple(found)
    return LABELS[max(range(3), key=row.__getitem__)]
