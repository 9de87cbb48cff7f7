"""What all models share: turning into plain dictionaries, and enums that read words in any case."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime, timedelta
from enum import Enum, StrEnum
from typing import Any, Self


def plain(value: Any) -> Any:
    """The value as JSON knows it: times in ISO 8601 (UTC), durations in seconds, tuples as lists, enums as words."""
    if isinstance(value, Model):
        return value.to_dict()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


class Model:
    """Base of the dataclasses."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary that `json.dumps` takes; fields that are not set are None."""
        assert dataclasses.is_dataclass(self)
        return {field.name: plain(getattr(self, field.name)) for field in dataclasses.fields(self)}


class Word(StrEnum):
    """An enum of the contract, by the words without their prefix; reads any case and the prefixed names too."""

    @classmethod
    def prefix(cls) -> str:
        """What stands before each word in the contract, `VERSION_STATE_` for VersionState."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).upper() + "_"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        word = value.strip().upper().removeprefix(cls.prefix())
        return cls.__members__.get(word)
