"""Texts of users and of the server as they may be shown: what would command a terminal stands there to be read."""

from __future__ import annotations

import re

# Control characters but for newline and tab, and what turns the direction of the text around it.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """The text with control characters as JSON would escape them, so that in JSON it still means the same."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """The same on one line."""
    return re.sub("[\n\t]", " ", visible(text))
