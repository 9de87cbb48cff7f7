"""Cuts a long premise so that what the hypothesis speaks of stays: whole sentences, in their order."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable

# The end of a sentence, in Latin and in Japanese writing, or a line's end.
_SENTENCES = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*|\n+")
_WORDS = re.compile(r"[^\W_]+")
_SPACELESS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def excerpt(premise: str, hypothesis: str, fits: Callable[[str], bool]) -> str:
    """The sentences of a premise that share most with a hypothesis, as many as fit, in their order.

    Sentences are ranked by the words that they share with the hypothesis, rare words of the premise counting more
    (inverse document frequency over its sentences; Sparck Jones, 1972); ties go to the earlier one. Writing without
    spaces is compared by pairs of characters.

    Args:
        premise: The text to cut.
        hypothesis: What is judged against it.
        fits: Whether a text is short enough. It must be for a text whenever it is for a longer one.

    Returns:
        The excerpt; empty where not even the best sentence fits, or there is but one.
    """
    sentences = [part for part in (piece.strip() for piece in _SENTENCES.split(premise)) if part]
    if len(sentences) < 2:
        return ""
    told = [words(sentence) for sentence in sentences]
    occurring = Counter(word for found in told for word in found)
    asked = words(hypothesis)
    scores = [sum(math.log(1 + len(sentences) / occurring[word]) for word in found & asked) for found in told]
    ranked = sorted(range(len(sentences)), key=lambda index: (-scores[index], index))

    def text(count: int) -> str:
        kept = sorted(ranked[:count])
        return " ".join(sentences[index] for index in kept)

    low, high = 0, len(sentences)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(text(middle)) else (low, middle - 1)
    return text(low)


def words(text: str) -> set[str]:
    """The different words of a text, casefolded; of writing without spaces, its pairs of characters."""
    found: set[str] = set()
    for word in _WORDS.findall(text.casefold()):
        if _SPACELESS.search(word):
            found.update(word[index : index + 2] for index in range(max(1, len(word) - 1)))
        else:
            found.add(word)
    return found
