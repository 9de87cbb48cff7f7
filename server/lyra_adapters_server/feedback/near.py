"""Near duplicates among recorded reviews: the same pair typed or extracted again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lyra_adapters_server.feedback.texts import alike, normalized
from lyra_adapters_server.types import Sample


@dataclass(frozen=True)
class Distinct:
    """The samples that remain, and those that gave way to one of them, each in their order.

    Attributes:
        samples: Those that remain.
        merged: Those that gave way.
        conflicts: How many of these have another label than what they gave way to.
    """

    samples: list[Sample]
    merged: list[Sample]
    conflicts: int = 0


def merge_near_duplicates(samples: Sequence[Sample]) -> Distinct:
    """Of samples whose texts are nearly the same (feedback/texts.py) the last one counts, whatever the labels."""
    pairs = [(alike(normalized(sample.premise)), alike(normalized(sample.hypothesis))) for sample in samples]
    newest = {pair: index for index, pair in enumerate(pairs)}
    last = [newest[pair] for pair in pairs]
    gone = [index for index, stays in enumerate(last) if stays != index]
    return Distinct(
        samples=[samples[index] for index, stays in enumerate(last) if stays == index],
        merged=[samples[index] for index in gone],
        conflicts=sum(samples[index].correct_label != samples[last[index]].correct_label for index in gone),
    )
