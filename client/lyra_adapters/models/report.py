"""How a version did on each row that its gate asked about."""

from __future__ import annotations

from dataclasses import dataclass

from lyra_adapters.models.base import Model
from lyra_adapters.models.samples import Sample
from lyra_adapters.models.scores import Metrics
from lyra_adapters.models.service import Probabilities
from lyra_adapters.models.versions import AdapterVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRow(Model):
    """A row that the gate asked about.

    Attributes:
        sample: The row, with its texts; only its label where they have been deleted.
        general: Whether it is one of the base model's general rows, not a held-out review.
        champion: Probabilities of what the version was compared with.
        challenger: Probabilities of the version.
        excluded: Left out of the verdict, because one of the two has trained on it.
    """

    sample: Sample
    general: bool = False
    champion: Probabilities
    challenger: Probabilities
    excluded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Model):
    """How a version did.

    Attributes:
        version: The version; the events of its job have the course of the training.
        rows: Held-out reviews, then the general rows where they were asked about.
        texts_deleted: Whether the texts of the reviews have been deleted since.
        champion_metrics: Scores of what the version was compared with, on the held-out reviews that are not excluded.
        challenger_metrics: Scores of the version on the same reviews.
    """

    version: AdapterVersion
    rows: tuple[ReportRow, ...] = ()
    texts_deleted: bool = False
    champion_metrics: Metrics | None = None
    challenger_metrics: Metrics | None = None
