"""Names that a server sends: a version's full name, or `base`. Anything else never becomes a path."""

from __future__ import annotations

import re

from lyra_adapters.errors import DataLoss, InvalidArgument
from lyra_adapters.models.versions import PointerChange

BASE = "base"
_ADAPTER = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)
_VERSION = r"_v[1-9][0-9]{0,8}"


def check_adapter(adapter: str) -> str:
    """The adapter's name, if it is one. Raises InvalidArgument."""
    if not _ADAPTER.fullmatch(adapter) or re.search(r"_v[0-9]+\Z", adapter, re.ASCII):
        raise InvalidArgument(
            f"{adapter[:80]!r} is no adapter name: lower-case letters, digits and _, beginning with a letter, not "
            "ending in _v and digits.",
            reason="INVALID_FIELD",
        )
    return adapter


def is_version(adapter: str, name: str) -> bool:
    """Whether `name` is the full name of one of the adapter's versions, `user_feedback_v3`."""
    return bool(re.fullmatch(re.escape(adapter) + _VERSION, name, re.ASCII))


def check_change(adapter: str, change: PointerChange) -> PointerChange:
    """A change that a server sent, if it is about this adapter and names one of its versions. Raises DataLoss."""
    if change.adapter != adapter or (change.active != BASE and not is_version(adapter, change.active)):
        raise DataLoss(
            f"The server says that {change.active[:80]!r} is in force under {change.adapter[:80]!r}, which is no "
            f"version of {adapter}.",
            reason="BAD_NAME",
        )
    return change
