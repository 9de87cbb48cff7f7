"""Names of adapters and versions: `user_feedback`, `v3`, `user_feedback_v3`, and `base` for the bare base model."""

from __future__ import annotations

import re

BASE = "base"
ADAPTER_RULE = "[a-z][a-z0-9_]{0,62}, not ending in _v and digits"

_ADAPTER = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)
_VERSION_SUFFIX = re.compile(r"_v[0-9]+", re.ASCII)
_VERSION = re.compile(r"v([1-9][0-9]{0,8})", re.ASCII)


def is_adapter_name(name: str) -> bool:
    """Whether `name` follows ADAPTER_RULE. A name like `x_v3` would collide with version 3 of `x`."""
    return bool(_ADAPTER.fullmatch(name)) and not re.search(_VERSION_SUFFIX.pattern + r"\Z", name)


def full_name(adapter: str, number: int | None) -> str:
    """`user_feedback_v3`, or `base` where there is no number."""
    return BASE if number is None else f"{adapter}_v{number}"


def parse_version(version: str) -> int | None:
    """3 for `v3`; None if it is no version."""
    match = _VERSION.fullmatch(version)
    return int(match[1]) if match else None


def parse_full_name(name: str) -> tuple[str, int] | None:
    """(`user_feedback`, 3) for `user_feedback_v3`; None if it is no full name."""
    adapter, _, version = name.rpartition("_")
    number = parse_version(version)
    return (adapter, number) if number is not None and is_adapter_name(adapter) else None


def version_of(adapter: str, version: str) -> int | None:
    """The number that `v3` or the full name `user_feedback_v3` means under this adapter; None if it means none."""
    return parse_version(version.removeprefix(f"{adapter}_"))
