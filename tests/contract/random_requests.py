"""Random requests for any method: well-formed ones from its descriptor, and bytes that are anything else."""

from __future__ import annotations

import random
import struct
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

# What is at the edge of some type, or of some check.
INTEGERS = [0, 1, -1, 2, 50, 256, 1000, 20_001, 2**31 - 1, -(2**31), 2**31, 2**53, 2**63 - 1, -(2**63)]
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 0.9, 1e-45, 1e-7, 3.4e38, -3.4e38, float("inf"), float("-inf"), float("nan")]
TEXTS = [
    "",
    " ",
    "\0",
    "a\0b",
    "..",
    "/",
    "a/b",
    "../../etc/passwd",
    "a_v1",
    "base",
    "v0",
    "v1",
    "v" + "9" * 30,
    "%s%n",
]
TEXTS += ["'; DROP TABLE jobs; --", "é", "\u202e", "\U0001f600" * 300, "x" * 201, "x" * 2001, "all-linear", "q_proj"]
TEXTS += ["123e4567-e89b-42d3-a456-426614174000", "LABEL_SUPPORTS", "\ud7ff", "\uffff", "x" * 20_001]

BITS = {
    FieldDescriptor.TYPE_INT32: 32,
    FieldDescriptor.TYPE_SINT32: 32,
    FieldDescriptor.TYPE_SFIXED32: 32,
    FieldDescriptor.TYPE_INT64: 64,
    FieldDescriptor.TYPE_SINT64: 64,
    FieldDescriptor.TYPE_SFIXED64: 64,
}


def well_formed(descriptor: Descriptor, known: list[str], depth: int = 0) -> st.SearchStrategy[Message]:
    """Messages of a type, with any value that the types allow in any field. `known`: texts that mean something."""
    make = message_factory.GetMessageClass(descriptor)
    fields = {field.name: _values(field, known, depth) for field in descriptor.fields}

    def build(values: dict[str, Any]) -> Message:
        message = make()
        for name, value in values.items():
            field = descriptor.fields_by_name[name]
            if field.is_repeated:
                getattr(message, name).extend(value)
            elif field.message_type:
                getattr(message, name).CopyFrom(value)
            else:
                setattr(message, name, value)
        return message

    return st.fixed_dictionaries({}, optional=fields).map(build)


def nearly_right(descriptor: Descriptor, known: list[str], examples: list[Message]) -> st.SearchStrategy[Message]:
    """Requests that would be carried out, but for a field or two that may have any value."""

    def change(example: Message, other: Message, fields: int) -> Message:
        message = type(example)()
        message.CopyFrom(example)
        chosen = type(example)()
        for field, value in other.ListFields()[:fields]:
            message.ClearField(field.name)
            if field.is_repeated:
                getattr(chosen, field.name).extend(value)
            elif field.message_type:
                getattr(chosen, field.name).CopyFrom(value)
            else:
                setattr(chosen, field.name, value)
        message.MergeFrom(chosen)
        return message

    return st.builds(change, st.sampled_from(examples), well_formed(descriptor, known), st.integers(0, 2))


def _values(field: FieldDescriptor, known: list[str], depth: int) -> st.SearchStrategy[Any]:
    one = _value(field, known, depth)
    return st.lists(one, max_size=3) if field.is_repeated else one


def _value(field: FieldDescriptor, known: list[str], depth: int) -> st.SearchStrategy[Any]:
    if field.message_type:
        if depth > 4:
            return st.builds(message_factory.GetMessageClass(field.message_type))
        return well_formed(field.message_type, known, depth + 1)
    if bits := BITS.get(field.type):
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        return st.sampled_from([i for i in INTEGERS if low <= i <= high]) | st.integers(low, high) | st.integers(0, 9)
    if field.type == FieldDescriptor.TYPE_ENUM:
        # proto3 lets numbers through that have no name.
        return st.sampled_from([*field.enum_type.values_by_number, 99, -1, 2**31 - 1])
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return st.sampled_from(FLOATS) | st.floats(width=32)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=50)
    assert field.type == FieldDescriptor.TYPE_STRING, field.full_name
    return st.sampled_from(known) | st.sampled_from(TEXTS) | st.text(max_size=20)


def malformed(valid: bytes, chance: random.Random) -> bytes:
    """Bytes that were a message: cut, changed, continued, or none at all."""
    how = chance.randrange(8)
    data = bytearray(valid)
    if how == 0:
        return chance.randbytes(chance.randrange(200))
    if how == 1:
        return bytes(data[: chance.randrange(len(data) + 1)])
    if how == 2 and data:
        for _ in range(chance.randrange(1, 8)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        return bytes(data)
    if how == 3:
        return bytes(data) + chance.randbytes(chance.randrange(1, 30))
    if how == 4:
        # A known field's number with any wire type, the two that no longer exist among them.
        return bytes(data) + _field(chance.randrange(1, 20), chance.randrange(8), chance)
    if how == 5:
        # A text that is no UTF-8.
        return bytes(data) + _varint(chance.randrange(1, 16) << 3 | 2) + b"\x04\xff\xfe\xc3\x28"
    if how == 6:
        # A length far beyond the end.
        return (
            bytes(data) + _varint(chance.randrange(1, 16) << 3 | 2) + _varint(chance.choice([2**31 - 1, 2**32, 2**63]))
        )
    # Groups, or messages, within each other without end.
    depth = chance.randrange(1, 3000)
    return b"\x0b" * depth if chance.random() < 0.5 else _nested(chance.randrange(1, 16), min(depth, 300))


def _field(number: int, wire: int, chance: random.Random) -> bytes:
    payload = {0: _varint(chance.getrandbits(70)), 1: chance.randbytes(8), 2: b"\x03abc", 5: struct.pack("<f", 1.0)}
    return _varint(number << 3 | wire) + payload.get(wire, b"")


def _nested(number: int, depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = _varint(number << 3 | 2) + _varint(len(data)) + data
    return data


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])
