"""Near duplicates among recorded reviews: the same pair typed or extracted again, with the same label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lyra_adapters_server.feedback.texts import alike, normalized
from lyra_adapters_server.types import Sample


@dataclass(frozen=True)
class Distinct:
    """The samples that remain, and those that were merged into one of them, each in their order."""

    samples: list[Sample]
    merged: list[Sample]


def merge_near_duplicates(samples: Sequence[Sample]) -> Distinct:
    """Merges samples into the last one with the same label whose texts are nearly the same (feedback/texts.py)."""
    pairs = [
        (sample.correct_label, alike(normalized(sample.premise)), alike(normalized(sample.hypothesis)))
        for sample in samples
    ]
    newest = {pair: index for index, pair in enumerate(pairs)}
    last = [newest[pair] == index for index, pair in enumerate(pairs)]
    return Distinct(
        samples=[sample for sample, kept in zip(samples, last, strict=True) if kept],
        merged=[sample for sample, kept in zip(samples, last, strict=True) if not kept],
    )
