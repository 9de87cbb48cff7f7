"""Cuts one long sentence to the part that shares most with what is asked."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection

from lyra_adapters_server.trainer.words import SPACELESS, placed_words

# What is not cut through: a word with its punctuation, or a character of writing without spaces.
_PIECES = re.compile(rf"{SPACELESS.pattern}|(?:(?!{SPACELESS.pattern})\S)+")
# Weights are whole numbers, so that adding and taking away again leaves nothing.
_SCALE = 1000


def window(sentence: str, asked: Collection[str], fits: Callable[[str], bool]) -> str:
    """The longest part of a sentence that fits and has the most of the words that are asked for.

    Words count once, and those that are rare in the sentence more. Of equally good parts the first is taken if it is
    the sentence's beginning, else the middle one, so that there is something on either side. Empty where no such word
    is there, or fits.
    """
    pieces = [found.span() for found in _PIECES.finditer(sentence)]
    starts = [start for start, _ in pieces]
    hits: list[list[str]] = [[] for _ in pieces]
    for word, place in placed_words(sentence):
        if word in asked:
            hits[bisect_right(starts, place) - 1].append(word)
    occurring = Counter(word for found in hits for word in found)
    if not occurring:
        return ""
    weights = {word: round(_SCALE * math.log(1 + len(pieces) / count)) for word, count in occurring.items()}

    def part(length: int) -> str:
        first = _best(hits, weights, length)
        return sentence[pieces[first][0] : pieces[first + length - 1][1]]

    low, high = 0, len(pieces)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(part(middle)) else (low, middle - 1)
    return part(low) if low else ""


def _best(hits: list[list[str]], weights: dict[str, int], length: int) -> int:
    """Where the best part of so many pieces begins."""
    inside: Counter[str] = Counter()
    score, best, places = 0, -1, [0]
    for end, arriving in enumerate(hits):
        for word in arriving:
            score += 0 if inside[word] else weights[word]
            inside[word] += 1
        for word in hits[end - length] if end >= length else ():
            inside[word] -= 1
            score -= 0 if inside[word] else weights[word]
        if end >= length - 1:
            if score > best:
                best, places = score, []
            if score == best:
                places.append(end - length + 1)
    return 0 if places[0] == 0 else places[len(places) // 2]
