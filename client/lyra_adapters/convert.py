"""Messages to models and back: the one place that knows both.

Models mirror the messages name by name, so one rule per kind of field converts them all; `tests` hold the two alike.
"""

from __future__ import annotations

import dataclasses
import numbers
import types
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from google.protobuf.message import Message

from lyra_adapters.errors import DataLoss, FieldViolation, InvalidArgument
from lyra_adapters.models import events
from lyra_adapters.models.base import Model, Word
from lyra_adapters.models.scores import Verdict
from lyra_adapters.v1 import adapter_service_pb2 as pb

M = TypeVar("M", bound=Model)
W = TypeVar("W", bound=Word)
F = TypeVar("F", bound=Callable[..., Any])

# Names that a mapping may use for a field besides the field's own.
ALIASES: Mapping[str, Mapping[str, str]] = {"Sample": {"label": "correct_label"}}


def _once(function: F) -> F:
    # functools.cache, without its claim that the class of a dataclass cannot be hashed.
    return cast(F, cache(function))


# ------------------------------------------------------------------------------------------------- message -> model


def decode(kind: type[M], message: Message) -> M:
    """The model of a message. Unknown enum numbers become UNSPECIFIED, where the enum has that word."""
    values: dict[str, Any] = {}
    for name, (read, optional) in _readers(kind).items():
        if optional and not _present(message, name):
            values[name] = None
        else:
            values[name] = read(getattr(message, name))
    return kind(**values)


def decode_event(message: pb.TrainEvent) -> events.TrainEvent:
    """The model of an event; `Unknown` where this client does not know its kind."""
    which = message.WhichOneof("event")
    event: events.Event = events.Unknown()
    if which is not None:
        kind = Verdict if which == "verdict" else getattr(events, which.capitalize())
        event = decode(kind, getattr(message, which))
    return events.TrainEvent(
        job_id=message.job_id,
        sequence=message.sequence,
        time=_time(message.time) if message.HasField("time") else None,
        event=event,
    )


def _present(message: Message, name: str) -> bool:
    field = message.DESCRIPTOR.fields_by_name[name]
    return bool(message.HasField(name) if field.has_presence else getattr(message, name))


@_once
def _readers(kind: Any) -> dict[str, tuple[Callable[[Any], Any], bool]]:
    return {name: _reader(hint) for name, hint in _hints(kind).items()}


@_once
def _hints(kind: Any) -> dict[str, Any]:
    # Resolving annotations is slow, and a request has up to 20,000 samples.
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _reader(hint: Any) -> tuple[Callable[[Any], Any], bool]:
    if get_origin(hint) in (Union, types.UnionType):
        (inner,) = [arg for arg in get_args(hint) if arg is not type(None)]
        return _reader(inner)[0], True
    if get_origin(hint) is tuple:
        each = _reader(get_args(hint)[0])[0]
        return lambda values: tuple(each(value) for value in values), False
    if issubclass(hint, Word):
        return lambda number: _word(hint, number), False
    if issubclass(hint, Model):
        return lambda message: decode(hint, message), False
    return {datetime: _time, timedelta: _duration, float: _float}.get(hint, hint), False


def _time(message: Any) -> datetime:
    whole = datetime.fromtimestamp(message.seconds, UTC)
    return whole + timedelta(microseconds=message.nanos // 1000)


def _duration(message: Any) -> timedelta:
    return timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)


def _float(value: float) -> float:
    # Most numbers travel in 32 bits; without the digits that widening invents they print as they were meant.
    short = float(f"{value:.7g}")
    return short if abs(short - value) <= 1e-7 * abs(value) else value


@_once
def _numbers(kind: type[Word]) -> dict[str, int]:
    values = pb.DESCRIPTOR.enum_types_by_name[kind.__name__].values
    return {value.name.removeprefix(kind.prefix()): value.number for value in values}


def _word(kind: type[Word], number: int) -> Word:
    for name, known in _numbers(kind).items():
        if known == number and name in kind.__members__:
            return kind.__members__[name]
    if "UNSPECIFIED" in kind.__members__:
        return kind.__members__["UNSPECIFIED"]
    raise DataLoss(f"The server answered with {kind.__name__} number {number}, which this client does not know.")


# ------------------------------------------------------------------------------------------------- model -> message


def number(word: Word) -> Any:
    """The contract's number of an enum's word, as the generated enum's type."""
    return _numbers(type(word))[word.value]


def encode(model: Model) -> Any:
    """The message of a model, found by the model's name; fields that are None stay unset."""
    message = getattr(pb, type(model).__name__)()
    for field in dataclasses.fields(model):  # type: ignore[arg-type]  # always a dataclass
        value = getattr(model, field.name)
        if value is not None:
            _put(message, field.name, value)
    return message


def encode_event(event: events.TrainEvent) -> pb.TrainEvent:
    """The message of an event."""
    message = pb.TrainEvent(job_id=event.job_id, sequence=event.sequence)
    if event.time is not None:
        _put(message, "time", event.time)
    if not isinstance(event.event, events.Unknown):
        getattr(message, event.kind).CopyFrom(encode(event.event))
    return message


def _put(message: Any, name: str, value: Any) -> None:
    if isinstance(value, Model):
        getattr(message, name).CopyFrom(encode(value))
    elif isinstance(value, datetime):
        # A time without a zone is local time, as everywhere in Python.
        getattr(message, name).FromDatetime(value.astimezone(UTC))
    elif isinstance(value, timedelta):
        getattr(message, name).FromTimedelta(value)
    elif isinstance(value, tuple):
        getattr(message, name).extend([encode(item) if isinstance(item, Model) else _scalar(item) for item in value])
    else:
        setattr(message, name, _scalar(value))


def _scalar(value: Any) -> Any:
    return number(value) if isinstance(value, Word) else value


# ---------------------------------------------------------------------------------------------- callers' input -> model


def coerce(kind: type[M], value: M | Mapping[str, Any], path: str) -> M:
    """The model that a caller gave as a model or as a mapping.

    Args:
        kind: The model wanted.
        value: An instance of it, or a mapping of its fields.
        path: Where the value stands in the request, for errors (`samples[17]`).

    Raises:
        InvalidArgument: An unknown or missing field, or a value of the wrong type; `violations` name the path.
    """
    if isinstance(value, kind):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}  # type: ignore[arg-type]  # always a dataclass
    elif not isinstance(value, Mapping):
        raise refused(path, f"must be a {kind.__name__} or a mapping, not {type(value).__name__}")
    aliases = ALIASES.get(kind.__name__, {})
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # always a dataclass
    hints = _hints(kind)
    values: dict[str, Any] = {}
    for key, given in value.items():
        name = aliases.get(key, key)
        where = f"{path}.{key}"
        if name not in fields:
            raise refused(where, f"is unknown; {kind.__name__} has {', '.join([*fields, *aliases])}")
        checked = _checked(hints[name], given, where)
        if values.setdefault(name, checked) != checked:
            raise refused(where, f"says something else than its other name ({name}); give one of the two")
    missing = [
        name
        for name, field in fields.items()
        if name not in values and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise refused(f"{path}.{missing[0]}", "is missing")
    return kind(**values)


def word(kind: type[W], value: W | str, path: str) -> W:
    """An enum's word from any case, with or without its prefix."""
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(kind.__members__)
        raise refused(path, f"is {value!r}; it must be one of {known}") from None


def refused(path: str, problem: str) -> InvalidArgument:
    """The error for a field that the client refuses before anything is sent."""
    return InvalidArgument(f"{path} {problem}", reason="INVALID_FIELD", violations=(FieldViolation(path, problem),))


def _checked(hint: Any, value: Any, path: str) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        (inner,) = [arg for arg in get_args(hint) if arg is not type(None)]
        # An empty label stands for "not known" in many exports.
        empty = value is None or (value == "" and issubclass(inner, Word))
        return None if empty else _checked(inner, value, path)
    if get_origin(hint) is tuple:
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise refused(path, f"must be a list, not {type(value).__name__}")
        return tuple(_checked(get_args(hint)[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    if issubclass(hint, Word):
        return word(hint, value, path)
    if issubclass(hint, Model):
        return coerce(hint, value, path)
    # The abstract kinds, so that NumPy's numbers pass as well.
    wanted: Any = {float: numbers.Real, int: numbers.Integral}.get(hint, hint)
    # bool is an int to Python, but True is no rank.
    if not isinstance(value, wanted) or (isinstance(value, bool) and hint is not bool):
        raise refused(path, f"must be {hint.__name__}, not {type(value).__name__}")
    return value
