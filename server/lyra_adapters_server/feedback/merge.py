"""Data care before splitting: duplicates merged, contradictions found, ids filled in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from lyra_adapters_server.errors import Violation, invalid
from lyra_adapters_server.feedback.texts import alike, normalized
from lyra_adapters_server.types import LABELS, Sample


@dataclass(frozen=True)
class Merged:
    """The rows that remain, and what became of the others."""

    samples: list[Sample]
    merged_duplicates: int
    dropped_conflicts: int


def merge(samples: Sequence[Sample], *, keep_newest: bool, near: bool = True) -> Merged:
    """Merges rows of the same pair (white space, case and Unicode form ignored), and finds contradictions.

    Rows with the same label become one (the last, which knows the newest original label). Rows with different labels
    are refused, naming both positions, or with `keep_newest` the last one stays; with `near` also those of nearly the
    same pair (feedback/texts.py). Raises Refusal.
    """
    # Those that stand, by what nearly the same pairs have in common, and by the pair.
    newest: dict[tuple[str, str], dict[tuple[str, str], int]] = {}
    labels_differ: list[Violation] = []
    merged = dropped = 0
    for index, sample in enumerate(samples):
        pair = (normalized(sample.premise), normalized(sample.hypothesis))
        standing = newest.setdefault((alike(pair[0]), alike(pair[1])) if near else pair, {})
        for other, earlier in list(standing.items()):
            if samples[earlier].correct_label == sample.correct_label:
                merged += other == pair
                continue
            dropped += 1
            which = "the same pair" if other == pair else "nearly the same pair"
            labels_differ += [
                _contradiction(samples, index, earlier, which),
                _contradiction(samples, earlier, index, which),
            ]
            del standing[other]
        standing[pair] = index
    if labels_differ and not keep_newest:
        raise invalid(labels_differ, "CONTRADICTING_LABELS")
    kept = [samples[index] for index in sorted(index for standing in newest.values() for index in standing.values())]
    return Merged([_with_id(sample) for sample in kept], merged, dropped)


def _contradiction(samples: Sequence[Sample], index: int, other: int, pair: str) -> Violation:
    return Violation(
        f"samples[{index}].correct_label",
        f"{samples[index].correct_label} contradicts samples[{other}].correct_label, {samples[other].correct_label}, "
        f"for {pair}; correct one of them, or set conflicts to CONFLICT_POLICY_KEEP_NEWEST",
    )


def pair_digest(sample: Sample) -> str:
    """Digest of the pair as merging compares it."""
    pair = f"{normalized(sample.premise)}\0{normalized(sample.hypothesis)}"
    return hashlib.sha256(pair.encode()).hexdigest()[:32]


def content_digest(sample: Sample, pair: str = "") -> str:
    """Digest of the pair and its label: what a version learns from a row. `pair` saves making its digest again."""
    return hashlib.sha256(f"{pair or pair_digest(sample)}\0{sample.correct_label}".encode()).hexdigest()[:32]


def contents_of_pair(sample: Sample) -> frozenset[str]:
    """Every content that tells a model something of a row's pair: whatever the label, and the other way round."""
    turned = sample.model_copy(update={"premise": sample.hypothesis, "hypothesis": sample.premise})
    return frozenset(
        content_digest(one.model_copy(update={"correct_label": label}), pair)
        for one in (sample, turned)
        for pair in (pair_digest(one),)
        for label in LABELS
    )


def _with_id(sample: Sample) -> Sample:
    return sample if sample.id else sample.model_copy(update={"id": pair_digest(sample)[:16]})
