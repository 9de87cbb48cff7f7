"""Inner rows: the part of a job's training rows that chooses the best step, the best candidate and the temperature."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from lyra_adapters_server.feedback.split import Cluster, clusters
from lyra_adapters_server.types import Label, Sample, TrainingConfig

# More inner rows choose no better, and cost training rows and time at every evaluation.
MAX_INNER_ROWS = 200
# Fewer training rows than this are predicted in folds: a fixed inner part of them would say nothing.
FEW_ROWS = 100
FOLDS_OF_FEW = 3

_Counts = Counter[Label | None]


def wanted_folds(rows: int, training: TrainingConfig) -> int:
    """How many folds so many training rows are divided into, if there are as many documents."""
    return training.folds or (FOLDS_OF_FEW if rows < FEW_ROWS and training.inner_fraction else 1)


def choosing(samples: Sequence[Sample], seen: Collection[int] = ()) -> list[Cluster]:
    """The documents that may choose: those of which what is gone on from was trained on no row (positions `seen`).

    It is right on those, however it is trained on, so they would call every step alike, and it too unsure of itself.
    """
    return [cluster for cluster in clusters(samples) if not any(row in seen for row in cluster.rows)]


def inner_folds(
    samples: Sequence[Sample], training: TrainingConfig, seen: Collection[int] = ()
) -> tuple[tuple[int, ...], ...]:
    """Positions of the inner rows, fold by fold: one fold is a fixed inner part, several cover all that may choose.

    Rows that belong together (feedback/split.py) are in one fold. Clusters are taken in an order that follows from
    them alone, so that the same rows always fall the same way, and each goes where rows of its labels are missing most.
    Empty where the rows can't be divided: then nothing is chosen, and the last step is kept.
    """
    if training.inner_fraction == 0 and wanted_folds(0, training) == 1:
        return ()
    found = sorted(choosing(samples, seen), key=lambda cluster: _order(cluster, samples))
    count = sum(len(cluster.rows) for cluster in found)
    folds = min(wanted_folds(count, training), len(found))
    if len(found) < 2:
        return ()
    if folds == 1:
        share = min(training.inner_fraction, MAX_INNER_ROWS / count)
        parts = _divide(samples, found, [share, 1 - share])[:1]
    else:
        parts = _divide(samples, found, [1 / folds] * folds)
    return tuple(tuple(sorted(part)) for part in parts)


def _divide(samples: Sequence[Sample], found: Sequence[Cluster], shares: Sequence[float]) -> list[list[int]]:
    """Divides clusters, at least one for each part, into parts of about given shares of the rows and of every label."""
    totals = _counts(samples, (row for cluster in found for row in cluster.rows))
    parts: list[list[int]] = [[] for _ in shares]
    taken: list[_Counts] = [Counter() for _ in shares]
    for place, cluster in enumerate(found):
        counts = _counts(samples, cluster.rows)
        empty = [part for part, rows in enumerate(parts) if not rows]

        def cost(part: int, counts: _Counts = counts) -> float:
            # Growth of the squared distances to what the part should have, relative to that, less what all parts share.
            return sum(n * (n + 2 * taken[part][of]) / (shares[part] * totals[of]) for of, n in counts.items())

        best = min(empty if len(found) - place <= len(empty) else range(len(shares)), key=cost)
        parts[best].extend(cluster.rows)
        taken[best].update(counts)
    return parts


def _counts(samples: Sequence[Sample], rows: Iterable[int]) -> _Counts:
    """How many rows of each label there are, and under None how many in all."""
    return Counter(of for row in rows for of in (samples[row].correct_label, None))


def _order(cluster: Cluster, samples: Sequence[Sample]) -> tuple[int, list[Label], str]:
    # Large ones first, since small ones then even the parts out; of a size, label by label, so that each is dealt out.
    labels = sorted(samples[row].correct_label for row in cluster.rows)
    # Not the order of split(): its hash decided which clusters are here at all.
    return -len(labels), labels, min(hashlib.sha256(f"inner\0{key}".encode()).hexdigest() for key in cluster.drawn_by)
