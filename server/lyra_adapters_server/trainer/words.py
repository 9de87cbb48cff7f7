"""The words of a text, as texts are compared by what they speak of."""

from __future__ import annotations

import re
from collections.abc import Iterator

_WORDS = re.compile(r"[^\W_]+")
# Writing without spaces, which is compared by pairs of characters.
SPACELESS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def words(text: str) -> set[str]:
    """The different words of a text, casefolded; of writing without spaces, its pairs of characters."""
    return {word for word, _ in placed_words(text)}


def placed_words(text: str) -> Iterator[tuple[str, int]]:
    """The words of a text in their order, each with where it begins."""
    for found in _WORDS.finditer(text):
        word = found.group()
        if SPACELESS.search(word):
            for index in range(max(1, len(word) - 1)):
                yield word[index : index + 2].casefold(), found.start() + index
        else:
            yield word.casefold(), found.start()
