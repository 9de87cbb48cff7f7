"""How texts are compared: which are the same, which are nearly the same, and which have the same letters."""

from __future__ import annotations

import re
import unicodedata

# Compatibility forms that mean something else than the plain character: 10⁵ is not 105, nor 2½ 21/2.
_OWN_MEANING = ("<super>", "<sub>", "<fraction>")

# Two letters: one alone may be a variable, as in f(x). Raised and lowered digits and fractions are none.
_TWO = r"(?:[^\W\d_\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u209f\u2150-\u218f]){2}"
# Spaces and ordinary punctuation between words, but after "no", where a comma turns the meaning round; hyphens inside
# words; and a full stop after a last number. What stands beside a number or a sign belongs to it.
_PAUSES = re.compile(
    rf"(?:(?<={_TWO})|^)(?<!\bno)(?<!\bnot)[ .,;:!?'\"()\[\]«»„、。「」『』]+(?={_TWO}|[ai]\b|$)"
    rf"|(?<={_TWO})[-\u2010-\u2015](?={_TWO})"
    r"|(?<=\d)[.。]$"
)
_WORDS = re.compile(r"[^\W_]+")
_QUOTES = str.maketrans("‘’‛“”‟", "'''\"\"\"")

# British spellings with their American ones. Typing errors are not recognised: hypotension, too, is a few letters away
# from hypertension.
_SPELLINGS = (
    (re.compile(r"(?<=[a-z]{4})([iy])z(?=(?:e[drs]?|ers|ing|able|ations?|ational)\b)"), r"\1s"),
    (re.compile(r"(behavi|endeav|neighb|flav|harb|arm|col|fav|hon|hum|lab|rum|sav|tum|vap|vig|od)our"), r"\1or"),
    (
        re.compile(
            r"(?<=h)ae(?=m[a-z])|ae(?=mi[ac]|sth|tiol)|(?<=p)ae(?=di)|(?<=f)ae(?=c)|(?<=gyn)ae(?=c)"
            r"|oe(?=dem|soph|str)|(?<=f)oe(?=t)|(?<=rrh)oe(?=a)|(?<=c)oe(?=lia)"
        ),
        "e",
    ),
)


def normalized(text: str) -> str:
    """Text as it is the same: Unicode NFKC but of what is raised, lowered or a fraction; case, white space ignored."""
    return " ".join(_folded(text).casefold().split())


def alike(text: str) -> str:
    """What normalised texts have in common that are nearly the same.

    They may differ in ordinary punctuation between words, in hyphens inside them, and in British and American spelling.
    Another letter, number or sign is another text, and so are words put together.
    """
    return _respelled(_PAUSES.sub(" ", text.translate(_QUOTES)).strip())


def letters(text: str) -> str:
    """The letters and digits of a normalised text, in one spelling: the same for all texts that are nearly the same.

    And for some more, such as 1.5 and 15. So it says what must not stand on two sides of a split, not what is one row.
    """
    return "".join(_WORDS.findall(_respelled(text))) or text


def _respelled(text: str) -> str:
    for spelling, other in _SPELLINGS:
        text = spelling.sub(other, text)
    return text


def _folded(text: str) -> str:
    kept = "".join(sorted(char for char in set(text) if unicodedata.decomposition(char).startswith(_OWN_MEANING)))
    if not kept:
        return unicodedata.normalize("NFKC", text)
    parts = re.split(f"([{kept}]+)", text)
    return "".join(part if index % 2 else unicodedata.normalize("NFKC", part) for index, part in enumerate(parts))
