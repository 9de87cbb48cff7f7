"""Inner rows: the part of a job's training rows that chooses the best step, the best candidate and the temperature."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from lyra_adapters_server.feedback.split import Cluster, clusters
from lyra_adapters_server.types import Label, Sample, TrainingConfig

# More inner rows choose no better, and cost training rows and time at every evaluation.
MAX_INNER_ROWS = 200
# Fewer training rows than this are predicted in folds: a fixed inner part of them would say nothing.
FEW_ROWS = 100
FOLDS_OF_FEW = 3


def usual_folds(rows: int) -> int:
    """How many folds so many training rows are divided into, where the request does not say."""
    return FOLDS_OF_FEW if rows < FEW_ROWS else 1


def inner_folds(samples: Sequence[Sample], training: TrainingConfig) -> tuple[tuple[int, ...], ...]:
    """Positions of the inner rows, fold by fold: one fold is a fixed inner part, several cover all rows.

    Rows that belong together (feedback/split.py) are in one fold. Clusters are taken in the order of a hash, so that
    the same rows always fall the same way, and each goes where its labels are missing most. Empty where the rows can't
    be divided: then nothing is chosen, and the last step is kept.
    """
    folds = training.folds or usual_folds(len(samples))
    if training.inner_fraction == 0 and folds == 1:
        return ()
    found = sorted(clusters(samples), key=_order)
    if len(found) < 2 or len(found) < folds:
        return ()
    if folds == 1:
        share = min(training.inner_fraction, MAX_INNER_ROWS / len(samples))
        parts = _divide(samples, found, [share, 1 - share])[:1]
    else:
        parts = _divide(samples, found, [1 / folds] * folds)
    return tuple(tuple(sorted(part)) for part in parts) if all(parts) else ()


def _divide(samples: Sequence[Sample], found: Sequence[Cluster], shares: Sequence[float]) -> list[list[int]]:
    """Divides clusters into parts of given shares, each with about its share of every label."""
    totals = Counter(sample.correct_label for sample in samples)
    parts: list[list[int]] = [[] for _ in shares]
    taken: list[Counter[Label]] = [Counter() for _ in shares]
    for cluster in found:
        counts = Counter(samples[row].correct_label for row in cluster.rows)

        def lack(part: int, counts: Counter[Label] = counts) -> float:
            # What is missing of the labels that the cluster brings, relative to what the part should have.
            return sum(n * (1 - taken[part][label] / (shares[part] * totals[label])) for label, n in counts.items())

        best = max(range(len(shares)), key=lack)
        parts[best].extend(cluster.rows)
        taken[best].update(counts)
    return parts


def _order(cluster: Cluster) -> str:
    # Not the order of split(): its hash decided which clusters are here at all.
    return min(hashlib.sha256(f"inner\0{key}".encode()).hexdigest() for key in cluster.drawn_by)
