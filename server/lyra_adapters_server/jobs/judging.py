"""Gathers what the gate decides on: both models' probabilities for the same rows, which neither has trained on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lyra_adapters_server.executors.base import Executor
from lyra_adapters_server.feedback.general import GeneralRows
from lyra_adapters_server.feedback.merge import content_digest
from lyra_adapters_server.jobs.prepared import Prepared, RowScores
from lyra_adapters_server.jobs.seen import was_seen
from lyra_adapters_server.registry.anchor import anchor_positions
from lyra_adapters_server.registry.comparison import Comparison, Estimate, Probabilities
from lyra_adapters_server.registry.gate import Evidence, Judgement, judge
from lyra_adapters_server.trainer.events import Scored
from lyra_adapters_server.trainer.metrics import compute_metrics
from lyra_adapters_server.trainer.spec import ScoreSpec, TrainSpec, class_prior
from lyra_adapters_server.types import LABELS, AdapterRef, Metrics, Sample

Stored = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """The gate's judgement, and what it left out because one of the two has trained on it.

    Attributes:
        judgement: On the other rows.
        excluded: Positions of held-out reviews.
        general: The general rows that were looked at.
        before: The champion's scores on the held-out reviews that are left; None: none are.
        after: The challenger's.
    """

    judgement: Judgement
    excluded: frozenset[int]
    general: Evidence
    before: Metrics | None
    after: Metrics | None


class Judging:
    """Scores models on the gate's rows and has the gate judge them."""

    def __init__(self, executor: Executor, general: Mapping[str, GeneralRows]) -> None:
        """Takes the general rows of each base model, by alias."""
        self._executor = executor
        self._general = general

    async def score(self, subject: AdapterRef, spec: TrainSpec, trained_on: set[str]) -> RowScores:
        """A model's probabilities on the gate's rows, under its own prompt. Raises WorkerDied, WorkFailed.

        General rows are asked about unless reviews that neither has trained on are the anchor.
        """
        held_out = spec.validation_samples
        if not held_out:
            return RowScores(held_out=[], general=[])
        # On a thread: digests of every row.
        left = await asyncio.to_thread(lambda: [row for row in held_out if not was_seen(row, trained_on)])
        general = () if not left or anchor_positions(left) else self._general[spec.base_alias].anchor
        # Each on its own: the trainer knows what it has said of the same set before, and either may be new.
        first = await self._ask(subject, spec, held_out)
        rest = (await self._ask(subject, spec, general)).probabilities if general else []
        temperature = first.metrics.temperature if first.metrics else 1.0
        asked = self._general[spec.base_alias].anchor_digest if general else ""
        return RowScores(held_out=first.probabilities, general=rest, general_rows=asked, temperature=temperature)

    def asks_anew(self, spec: TrainSpec, scores: RowScores) -> bool:
        """Whether the general rows are others by now than those of these scores: their file may have been replaced."""
        return bool(scores.general_rows) and scores.general_rows != self._general[spec.base_alias].anchor_digest

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
        """Judges on the rows whose pair neither has trained on, under any label.

        Args:
            spec: Of the job.
            prepared: Both models' probabilities.
            trained_on: Content (feedback/merge.py) of what the champion or the challenger's parent was trained on.
        """
        rows, champion, challenger = spec.validation_samples, prepared.champion_scores, prepared.scores
        kept = {index for index, row in enumerate(rows) if not was_seen(row, trained_on)}
        held_out = Evidence(rows, champion.held_out, challenger.held_out).at(kept)
        general = Evidence([], [], [])
        anchor = self._general[spec.base_alias].anchor if champion.general else ()
        if anchor and challenger.general:
            known = trained_on.union(map(content_digest, (*spec.training_samples, *spec.replay_samples)))
            left = [index for index, row in enumerate(anchor) if not was_seen(row, known)]
            general = Evidence(anchor, champion.general, challenger.general).at(left)
        excluded = frozenset(range(len(rows))) - kept
        judgement = judge(
            held_out,
            general,
            (*spec.training_samples, *rows),
            excluded=len(excluded),
            fraction=spec.training.validation_fraction,
        )
        before = _metrics(held_out.samples, held_out.champion, champion)
        after = _metrics(held_out.samples, held_out.challenger, challenger)
        return Verdict(judgement, excluded, general, before, after)


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


def _metrics(rows: Sequence[Sample], probabilities: Probabilities, scores: RowScores) -> Metrics | None:
    labels = [LABELS.index(row.correct_label) for row in rows]
    return compute_metrics(probabilities, labels, scores.temperature) if rows else None


def row_record(prepared: Prepared, verdict: Verdict, held_out: Sequence[Sample]) -> Stored:
    """Both models' probabilities by row, as they are kept for the report: in the rows' order, no texts."""
    champion, challenger = prepared.champion_scores, prepared.scores
    return {
        "held_out": _rows(held_out, champion.held_out, challenger.held_out),
        "general": _rows(verdict.general.samples, verdict.general.champion, verdict.general.challenger),
        "excluded": sorted(verdict.excluded),
    }


def _rows(samples: Sequence[Sample], champion: Probabilities, challenger: Probabilities) -> list[Stored]:
    return [
        {
            "id": sample.id,
            "label": sample.correct_label,
            "original": sample.original_label,
            "champion": _short(old),
            "challenger": _short(new),
        }
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
        "weighted": found.weighted,
    }


def _interval(found: Estimate) -> dict[str, float]:
    return {"value": found.value, "low": found.low, "high": found.high}
