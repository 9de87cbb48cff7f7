"""Variables that libraries read when they are loaded, as the trainer wants them. Imports none of them."""

from __future__ import annotations

import os

_WANTED = {
    # Threads that wait for each other spin for some tens of microseconds, then sleep. By default they spin for so long
    # that on a machine with other work they keep the very thread they wait for off its core; but waking one that sleeps
    # takes longer than many a product does (with a tenth of this number, two cores did a third less).
    "GOMP_SPINCOUNT": "30000",
    # The tokenizer's threads would only take turns with torch's.
    "TOKENIZERS_PARALLELISM": "false",
    # torch and oneDNN keep each shape's product, with its buffers, 1,024 of them. Micro-batches hardly ever have the
    # same length twice, so those are hundreds of megabytes that nobody asks for again. With 128 training is as fast.
    "LRU_CACHE_CAPACITY": "128",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
}


def set_environment() -> None:
    """Sets what nobody has set. Call it before torch is imported."""
    for name, value in _WANTED.items():
        os.environ.setdefault(name, value)
