"""Gathers what the gate decides on: both models' probabilities for the same rows, which neither has trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection

from lyra_adapters_server.executors.base import Executor
from lyra_adapters_server.feedback.general import GeneralRows
from lyra_adapters_server.feedback.merge import content_digest
from lyra_adapters_server.jobs.champion import Champion
from lyra_adapters_server.jobs.prepared import Prepared, RowScores
from lyra_adapters_server.registry.anchor import anchor_positions
from lyra_adapters_server.registry.comparison import Comparison, Estimate, Probabilities
from lyra_adapters_server.registry.gate import Evidence, Judgement, judge
from lyra_adapters_server.registry.names import parse_full_name
from lyra_adapters_server.storage.feedback import contents_trained_on
from lyra_adapters_server.storage.versions import lineage
from lyra_adapters_server.trainer.events import Scored
from lyra_adapters_server.trainer.metrics import compute_metrics
from lyra_adapters_server.trainer.spec import ScoreSpec, TrainSpec, class_prior
from lyra_adapters_server.types import LABELS, AdapterRef, Sample

Stored = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """The gate's judgement, and which held-out reviews it left out because one of the two has trained on them."""

    judgement: Judgement
    excluded: frozenset[int]


class Judging:
    """Scores models on the gate's rows and has the gate judge them."""

    def __init__(self, executor: Executor, general: Mapping[str, GeneralRows]) -> None:
        """Takes the general rows of each base model, by alias."""
        self._executor = executor
        self._general = general

    def general_rows(self, spec: TrainSpec) -> tuple[Sample, ...]:
        """The general rows that the gate asks about; none where reviews are the anchor, or none was held out."""
        if not spec.validation_samples or anchor_positions(spec.validation_samples):
            return ()
        return self._general[spec.base_alias].anchor

    async def score(self, subject: AdapterRef, spec: TrainSpec) -> RowScores:
        """A model's probabilities on the gate's rows, under its own prompt. Raises WorkerDied, WorkFailed."""
        held_out, general = spec.validation_samples, self.general_rows(spec)
        if not held_out:
            return RowScores(held_out=[], general=[], metrics=None)
        # Each on its own: the trainer knows what it has said of the same set before, and either may be new.
        first = await self._ask(subject, spec, held_out)
        rest = (await self._ask(subject, spec, general)).probabilities if general else []
        labels = [LABELS.index(sample.correct_label) for sample in held_out]
        temperature = first.metrics.temperature if first.metrics else 1.0
        metrics = compute_metrics(first.probabilities, labels, temperature)
        return RowScores(held_out=first.probabilities, general=rest, metrics=metrics)

    async def _ask(self, subject: AdapterRef, spec: TrainSpec, rows: Sequence[Sample]) -> Scored:
        return await self._executor.score(
            ScoreSpec(
                subject=subject,
                samples=tuple(rows),
                max_length=spec.training.max_length,
                prior=class_prior(spec.training_samples),
            )
        )

    def judge(self, spec: TrainSpec, prepared: Prepared, trained_on: set[str]) -> Verdict:
        """Judges on the rows whose content (feedback/merge.py) neither has trained on."""
        rows, champion, challenger = spec.validation_samples, prepared.champion_scores, prepared.scores
        excluded = {index for index, row in enumerate(rows) if trained_on and content_digest(row) in trained_on}
        held_out = Evidence(rows, champion.held_out, challenger.held_out).at(set(range(len(rows))) - excluded)
        general = Evidence(self.general_rows(spec), champion.general, challenger.general)
        return Verdict(judge(held_out, general, (*spec.training_samples, *rows)), frozenset(excluded))


def contents_seen(connection: Connection, champion: Champion, continue_from: str) -> set[str]:
    """Content of the rows that the champion, or what the challenger grew from, was trained on, ancestors included."""
    versions = set()
    for name in (champion.ref.name, continue_from):
        if parsed := parse_full_name(name):
            versions.update(lineage(connection, *parsed))
    return contents_trained_on(connection, versions)


def verdict_payload(verdict: Verdict) -> dict[str, Any]:
    """What a judgement rests on, as protos: Verdict has it."""
    judgement = verdict.judgement
    found: dict[str, Any] = {"more_reviews": judgement.more_reviews, "general_rows_decided": judgement.general}
    if judgement.held_out:
        found["held_out"] = {**_comparison(judgement.held_out), "excluded_rows": len(verdict.excluded)}
    if judgement.anchor:
        found["anchor"] = _comparison(judgement.anchor)
    if judgement.learnt:
        found["learnt"] = asdict(judgement.learnt)
    return found


def row_record(prepared: Prepared, verdict: Verdict, held_out: Sequence[Sample], general: Sequence[Sample]) -> Stored:
    """Both models' probabilities by row, as they are kept for the report: in the rows' order, no texts."""
    champion, challenger = prepared.champion_scores, prepared.scores
    return {
        "held_out": _rows(held_out, champion.held_out, challenger.held_out),
        "general": _rows(general, champion.general, challenger.general),
        "excluded": sorted(verdict.excluded),
    }


def _rows(samples: Sequence[Sample], champion: Probabilities, challenger: Probabilities) -> list[Stored]:
    return [
        {"id": sample.id, "label": sample.correct_label, "champion": _short(old), "challenger": _short(new)}
        for sample, old, new in zip(samples, champion, challenger, strict=True)
    ]


def _short(row: tuple[float, float, float]) -> list[float]:
    return [round(value, 6) for value in row]


def _comparison(found: Comparison) -> dict[str, Any]:
    return {
        "rows": found.rows,
        "champion_accuracy": found.champion_accuracy,
        "challenger_accuracy": found.challenger_accuracy,
        "accuracy_difference": _interval(found.accuracy),
        "brier_difference": _interval(found.brier),
        "gained": found.gained,
        "lost": found.lost,
        "p_value": found.p_value,
    }


def _interval(found: Estimate) -> dict[str, float]:
    return {"value": found.value, "low": found.low, "high": found.high}
