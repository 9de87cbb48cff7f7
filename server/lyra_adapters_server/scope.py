"""Which adapters a caller may know of: patterns of names such as `team_a_*`. Imports no other layer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

PATTERN_RULE = "an adapter's name, in which * stands for any characters, such as team_a_*"
# Nothing but names and *: what SQLite's GLOB and fnmatch read alike.
_PATTERN = re.compile(r"[a-z0-9_*]{1,63}", re.ASCII)


@dataclass(frozen=True)
class Scope:
    """A caller's adapters. What is outside does not exist for it."""

    patterns: tuple[str, ...]

    def __contains__(self, adapter: str) -> bool:
        return any(fnmatchcase(adapter, pattern) for pattern in self.patterns)

    def __str__(self) -> str:
        return ", ".join(self.patterns)

    @property
    def everything(self) -> bool:
        """Whether every name is inside."""
        return "*" in self.patterns


EVERYTHING = Scope(("*",))


def is_pattern(pattern: str) -> bool:
    """Whether a pattern follows PATTERN_RULE."""
    return bool(_PATTERN.fullmatch(pattern))
