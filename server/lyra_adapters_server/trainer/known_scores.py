"""What has been said of sets of rows: the gate asks what training has asked before, the next job what the last did."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from lyra_adapters_server.trainer.data import Row, TextEncoder
from lyra_adapters_server.trainer.kernels import ops
from lyra_adapters_server.trainer.lora import Adapter

Probabilities = list[tuple[float, float, float]]

# In all sets together; a row takes some 200 bytes.
MOST_ROWS = 50_000


class KnownScores:
    """Probabilities of whole sets of rows on one base model; the least recently used are forgotten.

    Sets are kept whole, because a row's last digits depend on which rows it is computed with: what is found is what
    would be computed again.
    """

    def __init__(self) -> None:
        """Knows nothing."""
        self._sets: dict[str, Probabilities] = {}

    def find(self, key: str) -> Probabilities | None:
        """What was said of a set, at temperature 1; None if it is not known."""
        if key not in self._sets:
            return None
        self._sets[key] = self._sets.pop(key)
        return list(self._sets[key])

    def keep(self, key: str, found: Probabilities) -> None:
        """Keeps what was said of a set, at temperature 1."""
        self._sets[key] = list(found)
        while sum(map(len, self._sets.values())) > MOST_ROWS:
            del self._sets[next(iter(self._sets))]


def key_of(adapter: Adapter | None, encoder: TextEncoder, rows: Sequence[Row]) -> str:
    """A digest of all that a base model's answers to rows follow from: no names, so that a copy is known too."""
    digest = hashlib.sha256(json.dumps(encoder.describe(), sort_keys=True).encode())
    # Jobs of different plans may ask; see plan.py.
    digest.update(repr(ops.fit()).encode())
    for row in rows:
        digest.update(repr((row.tokens, row.types)).encode())
    if adapter is not None:
        digest.update(repr(adapter.scale).encode())
        for name, parameter in sorted(adapter.parameters.items()):
            digest.update(name.encode())
            digest.update(parameter.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()
