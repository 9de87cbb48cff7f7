"""What a version's row is to say, kept with the number reserved for it until the row is there."""

from __future__ import annotations

from dataclasses import dataclass

from lyra_adapters_server.registry.publish import PublishedFiles
from lyra_adapters_server.trainer.events import Trained
from lyra_adapters_server.types import AdapterRef, BaseCard, Value


class RowScores(Value):
    """One model's probabilities, at its temperature, for the held-out reviews and for the general rows."""

    held_out: list[tuple[float, float, float]]
    general: list[tuple[float, float, float]]
    # Digest of the general rows; empty where none were asked about.
    general_rows: str = ""
    temperature: float = 1.0


class Prepared(Value):
    """A trained adapter, and what it was judged against."""

    trained: Trained
    base: BaseCard
    scores: RowScores
    champion: AdapterRef
    champion_scores: RowScores


@dataclass(frozen=True)
class HalfPublished:
    """A version whose directory is whole although its row is missing: a crash came between the two."""

    prepared: Prepared
    number: int
    files: PublishedFiles
