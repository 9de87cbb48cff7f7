"""What a version's row is to say, kept with the number reserved for it until the row is there."""

from __future__ import annotations

from dataclasses import dataclass

from lyra_adapters_server.jobs.champion import Champion
from lyra_adapters_server.registry.publish import PublishedFiles
from lyra_adapters_server.trainer.events import Trained
from lyra_adapters_server.types import AdapterRef, BaseCard, Metrics, Value


@dataclass(frozen=True)
class Scored:
    """What the challenger is compared with."""

    champion: Champion
    metrics: Metrics | None


class Prepared(Value):
    """A trained adapter, and what it was judged against."""

    trained: Trained
    base: BaseCard
    champion: AdapterRef
    pointer_revision: int
    champion_metrics: Metrics | None

    @property
    def against(self) -> Scored:
        """What it was judged against."""
        return Scored(Champion(self.champion, self.pointer_revision), self.champion_metrics)


@dataclass(frozen=True)
class HalfPublished:
    """A version whose directory is whole although its row is missing: a crash came between the two."""

    prepared: Prepared
    number: int
    files: PublishedFiles
