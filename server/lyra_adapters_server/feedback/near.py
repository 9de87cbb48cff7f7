"""Near duplicates among recorded reviews: pairs whose texts differ by a few characters and whose labels agree."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Indel

from lyra_adapters_server.feedback.split import normalized
from lyra_adapters_server.types import Sample

# Share of characters that two texts must have in common, in order. A changed digit or "not" is far less than that in a
# long text, so numbers and negations are compared on their own.
LIKENESS = 0.95
# Rows that share a text, beyond which they are not compared with each other: it would take too long.
_MOST = 200
_TELLING = re.compile(
    r"\d+(?:[.,]\d+)*|\b(?:no|not|never|none|without|neither|nor|cannot)\b|n't\b|[ぬずんな]い?|ない|ません"
)


@dataclass(frozen=True)
class Merged:
    """The samples that remain, in their order, and how many were merged into one of them."""

    samples: list[Sample]
    merged: int


def merge_near_duplicates(samples: Sequence[Sample]) -> Merged:
    """Merges samples into the last one that is nearly the same: what was typed again, or extracted again with a hyphen.

    Near means: the same label; premises, and hypotheses, that share LIKENESS of their characters (normalised indel
    similarity); and the very same numbers and negations in both. Only pairs that share a hypothesis but for spaces and
    punctuation, or a premise, are compared: the others are too many.
    """
    buckets: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    texts = [(normalized(sample.premise), normalized(sample.hypothesis)) for sample in samples]
    for index, (premise, hypothesis) in enumerate(texts):
        label = samples[index].correct_label
        buckets["hypothesis", label, _letters(hypothesis)].append(index)
        buckets["premise", label, _letters(premise)].append(index)
    gone: set[int] = set()
    for rows in buckets.values():
        if len(rows) > _MOST:
            continue
        for place, index in enumerate(rows):
            if index not in gone and any(
                later not in gone and _near(texts[index], texts[later]) for later in rows[place + 1 :]
            ):
                gone.add(index)
    return Merged([sample for index, sample in enumerate(samples) if index not in gone], len(gone))


def _near(one: tuple[str, str], other: tuple[str, str]) -> bool:
    return all(
        _TELLING.findall(mine) == _TELLING.findall(theirs)
        and Indel.normalized_similarity(mine, theirs, score_cutoff=LIKENESS) >= LIKENESS
        for mine, theirs in zip(one, other, strict=True)
    )


def _letters(text: str) -> str:
    return "".join(character for character in text if character.isalnum())
