"""Near duplicates among recorded reviews: the same pair typed or extracted again, with the same label."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Indel

from lyra_adapters_server.feedback.split import normalized
from lyra_adapters_server.types import Sample

# Of a text's words, so many may be spelled otherwise, one at least ...
_MAY_DIFFER = 0.05
# ... each by little, and not at its beginning, where a prefix would turn its meaning round.
_LIKENESS, _BEGINNING = 0.85, 2
# Rows that share a text, beyond which they are not compared with each other: it would take too long.
_MOST = 200
_WORDS = re.compile(r"[^\W_]+")
# Writing without spaces, in which a "word" is a whole phrase.
_SPACELESS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


@dataclass(frozen=True)
class Merged:
    """The samples that remain, in their order, and how many were merged into one of them."""

    samples: list[Sample]
    merged: int


def merge_near_duplicates(samples: Sequence[Sample]) -> Merged:
    """Merges samples into the last one that is nearly the same.

    Near means: the same label, and premises and hypotheses that differ in spaces, punctuation and hyphens, or in the
    spelling of one word in twenty (randomised, randomized). Another word, number or negation is another pair. Only
    samples that share a premise, or a hypothesis, but for spaces and punctuation are compared.
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
                later not in gone and all(map(_near, texts[index], texts[later])) for later in rows[place + 1 :]
            ):
                gone.add(index)
    return Merged([sample for index, sample in enumerate(samples) if index not in gone], len(gone))


def _near(one: str, other: str) -> bool:
    if _letters(one) == _letters(other):
        return True
    mine, theirs = _WORDS.findall(one), _WORDS.findall(other)
    if len(mine) != len(theirs):
        return False
    differing = [pair for pair in zip(mine, theirs, strict=True) if pair[0] != pair[1]]
    return len(differing) <= max(1, int(_MAY_DIFFER * len(mine))) and all(_respelled(*pair) for pair in differing)


def _respelled(one: str, other: str) -> bool:
    if not (one.isalpha() and other.isalpha()) or _SPACELESS.search(one + other):
        return False
    return one[:_BEGINNING] == other[:_BEGINNING] and Indel.normalized_similarity(one, other) >= _LIKENESS


def _letters(text: str) -> str:
    return "".join(_WORDS.findall(text))
