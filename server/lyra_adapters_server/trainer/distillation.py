"""Against forgetting: a version that goes on from another answers as that one did on pairs that nobody has labelled.

After Li and Hoiem, *Learning without Forgetting* (2016, arXiv 1606.09282). Their new images stand for the old ones;
here the job's own premises and hypotheses do, recombined: the parent's answers to those need no label, and no errors
have picked them out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lyra_adapters_server.trainer.words import words
from lyra_adapters_server.types import Pair, Sample

# Hypotheses that are drawn for a premise, of which the one that speaks of it most is taken.
_DRAWN = 32


def recombine(samples: Sequence[Sample], count: int, seed: int) -> list[Pair]:
    """Premises with hypotheses of other documents; as many different pairs as asked, or as there are.

    Each premise is used once, then once more, and so on. The first time, and every other time after it, it gets the one
    of 32 hypotheses that shares most words with it, so that not all pairs are about unrelated things; else any.

    Args:
        samples: Rows whose texts are used; their labels are not.
        count: Pairs wanted.
        seed: Of the draws.
    """
    # numpy takes no negative seeds.
    draw = np.random.default_rng([seed % (1 << 64), *b"recombine"])
    known = {(sample.premise, sample.hypothesis) for sample in samples}
    spoken = [words(sample.hypothesis) for sample in samples]
    found: dict[Pair, None] = {}
    # Twice as many tries as pairs: a few rows have few combinations.
    for number in range(2 * count if samples else 0):
        if len(found) == count:
            break
        place = number % len(samples)
        own = samples[place]
        drawn = draw.integers(len(samples), size=_DRAWN).tolist()
        others = [
            other
            for other in drawn
            if not (samples[other].group and samples[other].group == own.group)
            and (own.premise, samples[other].hypothesis) not in known
        ]
        if not others:
            continue
        told = words(own.premise)
        near = number // len(samples) % 2 == 0
        chosen = (
            max(others, key=lambda other: len(told & spoken[other]) / (len(spoken[other]) or 1)) if near else others[0]
        )
        found[Pair(premise=own.premise, hypothesis=samples[chosen].hypothesis)] = None
    return list(found)
