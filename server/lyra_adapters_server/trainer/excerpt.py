"""Cuts a long premise so that what the hypothesis speaks of stays: sentences in their order, or a part of one."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable

from lyra_adapters_server.trainer.window import window
from lyra_adapters_server.trainer.words import words

# The end of a sentence, in Latin and in Japanese writing, or a line's end.
_SENTENCES = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*|\n+")


def excerpt(premise: str, hypothesis: str, fits: Callable[[str], bool]) -> str:
    """The sentences of a premise that share most with a hypothesis, as many as fit, in their order.

    Sentences are ranked by the words that they share with the hypothesis, rare words of the premise counting more, and
    those in every sentence nothing (inverse document frequency over its sentences; Sparck Jones, 1972); ties go to the
    one that shares more words, then to the earlier one. One that does not fit beside better ones is left out, and
    shorter ones that follow may still fit. If the best alone is too long, it is cut to the part that speaks of the
    hypothesis (see window.py).

    Args:
        premise: The text to cut.
        hypothesis: What is judged against it.
        fits: Whether a text is short enough. It must be for a text whenever it is for a longer one.

    Returns:
        The excerpt; empty where the best sentence does not fit and has no word of the hypothesis that does.
    """
    sentences = [part for part in (piece.strip() for piece in _SENTENCES.split(premise)) if part]
    if not sentences:
        return ""
    told = [words(sentence) for sentence in sentences]
    occurring = Counter(word for found in told for word in found)
    asked = words(hypothesis)
    # fsum: other sums depend on the order of a set, which differs between processes.
    scores = [math.fsum(math.log(len(sentences) / occurring[word]) for word in found & asked) for found in told]
    ranked = sorted(range(len(sentences)), key=lambda index: (-scores[index], -len(told[index] & asked), index))

    def text(some: list[int]) -> str:
        return " ".join(sentences[index] for index in sorted(some))

    kept: list[int] = []
    left = ranked
    while left:
        low, high = 0, len(left)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(text(kept + left[:middle])) else (low, middle - 1)
        kept += left[:low]
        if not kept:
            return window(sentences[ranked[0]], asked, fits)
        # What is no shorter than one that did not fit is not asked about: that would take long with many sentences.
        left = [index for index in left[low + 1 :] if len(sentences[index]) < len(sentences[left[low]])]
    return text(kept)
