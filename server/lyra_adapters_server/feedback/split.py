"""Which rows are held out: by source document, by a stable hash, stratified as far as the documents allow."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lyra_adapters_server.feedback.texts import letters, normalized
from lyra_adapters_server.types import Sample


@dataclass(frozen=True)
class Split:
    """The rows of each side in the order given, and the side of every key (True: held out), to be remembered."""

    training: list[Sample]
    held_out: list[Sample]
    sides: dict[str, bool]


@dataclass(frozen=True)
class Cluster:
    """Rows that must stay together: they share a group, nearly a premise, or one is the other's pair turned round."""

    rows: tuple[int, ...]
    keys: frozenset[str]
    # Those of the keys that decide on its turn: not those of letters, which came later and must not draw anew.
    drawn_by: frozenset[str]


def keys_of(sample: Sample) -> list[str]:
    """What ties a row to others, as digests: its group, its premise, its unordered pair, and the letters of these."""
    return [*_drawn_by(sample), *_letter_keys(sample)]


def clusters(samples: Sequence[Sample]) -> list[Cluster]:
    """The connected components of rows that share a key, in the order of their first rows."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    drawn_by = [_drawn_by(sample) for sample in samples]
    row_keys = [[*own, *_letter_keys(sample)] for own, sample in zip(drawn_by, samples, strict=True)]
    for keys in row_keys:
        for key in keys[1:]:
            parent[root(key)] = root(keys[0])
    rows: dict[str, list[int]] = defaultdict(list)
    for index, keys in enumerate(row_keys):
        rows[root(keys[0])].append(index)
    return [
        Cluster(
            rows=tuple(members),
            keys=frozenset(key for index in members for key in row_keys[index]),
            drawn_by=frozenset(key for index in members for key in drawn_by[index]),
        )
        for members in rows.values()
    ]


def split(
    samples: Sequence[Sample],
    fraction: float,
    adapter: str,
    known: Mapping[str, bool],
    merged: Sequence[Sample] = (),
) -> Split:
    """Divides rows into training and held-out ones.

    A cluster with a key that was held out before stays held out; one seen only in training stays there. New clusters
    are taken in the order of a hash of adapter and keys, so that the same rows always fall the same way; each is held
    out if that brings the held-out share of its labels nearer to `fraction` than leaving it would.

    Args:
        samples: The rows, duplicates merged.
        fraction: Share to hold out, 0 to 0.9. With 0, rows held out before are still not trained on.
        adapter: The adapter's name; other names have splits of their own.
        known: Sides of keys seen before under this adapter, True for held out.
        merged: Rows that were merged into nearly the same ones, which keep to the sides that these had.
    """
    wanted = {label: fraction * n for label, n in Counter(sample.correct_label for sample in samples).items()}
    taken: Counter[str] = Counter()
    sides: dict[str, bool] = {}
    held: set[int] = set()
    fresh: list[Cluster] = []
    for together in clusters([*samples, *merged]):
        cluster = replace(together, rows=tuple(row for row in together.rows if row < len(samples)))
        before = {known[key] for key in cluster.keys if key in known}
        if before:
            _place(cluster, True in before, samples, sides, held, taken)
        else:
            fresh.append(cluster)
    for cluster in sorted(fresh, key=lambda one: min(_digest(adapter, key) for key in one.drawn_by)):
        counts = Counter(samples[row].correct_label for row in cluster.rows)
        # Change of the squared distance between what is held out and what is wanted, summed over labels.
        change = sum(n * (n + 2 * (taken[label] - wanted[label])) for label, n in counts.items())
        _place(cluster, fraction > 0 and change < 0, samples, sides, held, taken)
    return Split(
        training=[sample for index, sample in enumerate(samples) if index not in held],
        held_out=[sample for index, sample in enumerate(samples) if index in held],
        sides=sides,
    )


def _place(
    cluster: Cluster,
    held_out: bool,
    samples: Sequence[Sample],
    sides: dict[str, bool],
    held: set[int],
    taken: Counter[str],
) -> None:
    sides.update(dict.fromkeys(cluster.keys, held_out))
    if held_out:
        held.update(cluster.rows)
        taken.update(samples[row].correct_label for row in cluster.rows)


def _drawn_by(sample: Sample) -> list[str]:
    keys = _text_keys("", normalized(sample.premise), normalized(sample.hypothesis))
    return [*keys, _digest("group", sample.group)] if sample.group else keys


def _letter_keys(sample: Sample) -> list[str]:
    return _text_keys(" letters", letters(normalized(sample.premise)), letters(normalized(sample.hypothesis)))


def _text_keys(kind: str, premise: str, hypothesis: str) -> list[str]:
    pair = "\0".join(sorted((premise, hypothesis)))
    return [_digest(f"premise{kind}", premise), _digest(f"pair{kind}", pair)]


def _digest(kind: str, value: str) -> str:
    return hashlib.sha256(f"{kind}\0{value}".encode()).hexdigest()[:32]
