"""Which domains are the same: a name that only looks new must not make training due."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

# Invisible, though Unicode counts them as letters, marks or symbols.
_BLANK = {*"\u034f\u115f\u1160\u17b4\u17b5\u2800", *map(chr, range(0xFE00, 0xFE10))}


def domain_key(domain: str) -> str:
    """The domain as it is compared: Unicode NFKC; case, white space around and between, what is invisible ignored."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", domain).casefold())
    return " ".join("".join(char for char in text if char.isspace() or _shows(char)).split())


def new_domains(domains: Iterable[str], known: Iterable[str]) -> list[str]:
    """Those of the domains that are none of the known ones, each once, in order."""
    keys = {"", *map(domain_key, known)}
    found = []
    for domain in sorted(domains):
        if (key := domain_key(domain)) not in keys:
            keys.add(key)
            found.append(domain)
    return found


def _shows(char: str) -> bool:
    return unicodedata.category(char) not in ("Cc", "Cf") and char not in _BLANK
