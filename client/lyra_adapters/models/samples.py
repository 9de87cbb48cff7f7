"""Reviewed predictions: what callers send to train on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from lyra_adapters.models.base import Model, Word


class Label(Word):
    """The relation of a premise to a hypothesis.

    `Label("supports")` and `Label("LABEL_SUPPORTS")` work too, and so do the words that models and data sets use:
    `entailment`, `contradicts`, `not enough info`, ….
    """

    SUPPORTS = "SUPPORTS"
    REFUTES = "REFUTES"
    NEUTRAL = "NEUTRAL"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        found = super()._missing_(value)
        if found is None and isinstance(value, str):
            found = cls.__members__.get(_SPELLINGS.get(re.sub(r"[\s_-]+", " ", value.strip().lower()), ""))
        return found


_SPELLINGS = {
    **dict.fromkeys(("support", "supported", "entailment", "entails", "entailed"), "SUPPORTS"),
    **dict.fromkeys(("refute", "refuted", "contradiction", "contradicts", "contradict", "contradicted"), "REFUTES"),
    **dict.fromkeys(("not enough info", "not enough information", "nei"), "NEUTRAL"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample(Model):
    """One reviewed prediction.

    Attributes:
        premise: The fragment of the document, 1 to 20,000 characters.
        hypothesis: The claim, 1 to 4,000 characters.
        correct_label: What the reviewer says is right.
        original_label: What the model had said; None where that is not known.
        original_confidence: The model's probability of `original_label`, 0 to 1.
        id: The caller's id of the review, unique in a request. Empty: a digest of the pair.
        group: The source document; its rows never stand on both sides of a split. Empty: rows of the same premise
            form a group.
    """

    premise: str
    hypothesis: str
    correct_label: Label
    original_label: Label | None = None
    original_confidence: float | None = None
    id: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair(Model):
    """A premise (1 to 20,000 characters) and a hypothesis (1 to 4,000) to classify."""

    premise: str
    hypothesis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Review(Model):
    """One reviewed prediction to store.

    Attributes:
        sample: The reviewed prediction.
        task_id: The caller's task, at most 200 characters.
        domain: The domain, at most 200 characters.
        review_time: When it was reviewed; None: now.
    """

    sample: Sample
    task_id: str = ""
    domain: str = ""
    review_time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackSource(Model):
    """Which recorded feedback to train on; the default is all of it.

    Attributes:
        task_ids: Only feedback of these tasks.
        domains: Only feedback of these domains.
        reviewed_after: Only feedback reviewed at or after this time.
        reviewed_before: Only feedback reviewed before this time.
        only_new: Only feedback that no version under the adapter's name has used.
    """

    task_ids: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    reviewed_after: datetime | None = None
    reviewed_before: datetime | None = None
    only_new: bool = False
