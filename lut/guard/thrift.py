"""Thrift's compact protocol, of which Parquet's footers and page headers are made: structs to and from
Python values. Anything malformed is a ValueError, and no more is made than the bytes can hold.

Source: github.com/apache/thrift, doc/specs/thrift-compact-protocol.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
MOST_NESTED = 16
# Beyond, other readers wrap around, and read another field.
LAST_FIELD = (1 << 15) - 1
# 7 bits of a 64-bit integer in each byte.
LONGEST_VARINT = 10
BITS = {I16: 16, I32: 32, I64: 64}


class Field(NamedTuple):
    """A field of a struct: its wire type, and its value. Integers are int, BINARY is bytes, DOUBLE is
    float, LIST and SET are `Items`, STRUCT is a dict of field number to `Field`."""

    type: int
    value: Any


class Items(NamedTuple):
    """A list, and the wire type of its items."""

    type: int
    values: tuple[Any, ...]


Struct = dict[int, Field]
Reader: TypeAlias = Callable[[bytes, int], tuple[Any, int]]
Wanted: TypeAlias = "Mapping[int, Wanted | None]"
"""Numbers of fields, and of those that are structs what is wanted of them; None is all."""
NOTHING: Wanted = {}


def read_struct(
    data: bytes,
    start: int = 0,
    readers: Mapping[int, Reader] | None = None,
    wanted: Wanted | None = None,
) -> tuple[Struct, int]:
    """The struct that begins at `start`, and where it ends.

    Args:
        readers: for a field that is a list of structs: what reads one of them.
        wanted: the fields to give; others are checked alike and left out.

    Raises:
        ValueError: it is cut off, has a field twice, an unknown type, a number of more bits than its
            type, a map, or is nested too deep.
    """
    try:
        return _struct(data, start, 0, readers or {}, wanted)
    except (IndexError, struct.error):
        raise ValueError("cut off") from None


def write_struct(fields: Mapping[int, Field]) -> bytes:
    """Inverse of `read_struct`; fields in the order of the mapping."""
    parts = []
    previous = 0
    for number, field in fields.items():
        step = number - previous
        if 0 < step < 16:
            parts.append(bytes([step << 4 | field.type]))
        else:
            parts.append(bytes([field.type]) + _write_varint(_zigzag(number)))
        previous = number
        if field.type not in (TRUE, FALSE):
            parts.append(_write(field.type, field.value))
    return b"".join([*parts, b"\0"])


def _struct(
    data: bytes, at: int, depth: int, readers: Mapping[int, Reader], wanted: Wanted | None
) -> tuple[Struct, int]:
    if depth > MOST_NESTED:
        raise ValueError("nested too deep")
    fields: Struct = {}
    seen = set()
    number = 0
    while head := data[at]:
        at += 1
        kind = head & 15
        if head > 15:
            number += head >> 4
        else:
            number, at = _integer(data, at, I16)
        if number in seen or not 0 < number <= LAST_FIELD:
            raise ValueError(f"field {number} twice or out of range")
        seen.add(number)
        if wanted is not None and number not in wanted:
            at = at if kind in (TRUE, FALSE) else _end(data, at, kind, depth)
            continue
        value: Any
        if kind in BITS:
            value, at = _integer(data, at, kind)
        elif kind in (TRUE, FALSE):
            value = kind == TRUE
        else:
            within = None if wanted is None else wanted[number]
            value, at = _value(data, at, kind, depth, readers.get(number), within)
        fields[number] = Field(kind, value)
    return fields, at + 1


def _end(data: bytes, at: int, kind: int, depth: int) -> int:
    """Where a value ends that is no flag of a struct."""
    if kind in BITS:
        return at + 1 if data[at] < 128 else _integer(data, at, kind)[1]
    if kind == STRUCT:
        return _struct(data, at, depth + 1, {}, NOTHING)[1]
    if kind in (LIST, SET):
        size, kind, at = _items_head(data, at, depth + 1)
        for _ in range(size):
            at = _end(data, at, kind, depth + 1)
        return at
    return _value(data, at, kind, depth, None, None)[1]


def _value(
    data: bytes, at: int, kind: int, depth: int, reader: Reader | None, wanted: Wanted | None
) -> tuple[Any, int]:
    if kind == BINARY:
        size, at = _varint(data, at)
        if size > len(data) - at:
            raise ValueError("cut off")
        return data[at : at + size], at + size
    if kind == STRUCT:
        return _struct(data, at, depth + 1, {}, wanted)
    if kind in (LIST, SET):
        return _items(data, at, depth + 1, reader, wanted)
    if kind in BITS:
        return _integer(data, at, kind)
    if kind in (TRUE, FALSE, BYTE):  # in a list, a flag is a byte
        return data[at], at + 1
    if kind == DOUBLE:
        return struct.unpack_from("<d", data, at)[0], at + 8
    raise ValueError(f"unknown type {kind}")


def _items(
    data: bytes, at: int, depth: int, reader: Reader | None, wanted: Wanted | None
) -> tuple[Items, int]:
    size, kind, at = _items_head(data, at, depth)
    values = []
    for _ in range(size):
        if reader is not None and kind == STRUCT:
            value, at = reader(data, at)
        else:
            value, at = _value(data, at, kind, depth, None, wanted)
        values.append(value)
    return Items(kind, tuple(values)), at


def _items_head(data: bytes, at: int, depth: int) -> tuple[int, int, int]:
    """How many items a list has, their type, and where they begin."""
    size, kind = data[at] >> 4, data[at] & 15
    at += 1
    if size == 15:
        size, at = _varint(data, at)
    if size > len(data) - at:  # every item takes a byte or more
        raise ValueError("cut off")
    if depth > MOST_NESTED:
        raise ValueError("nested too deep")
    return size, kind, at


def _integer(data: bytes, at: int, kind: int) -> tuple[int, int]:
    zigzag = data[at]
    if zigzag < 128:  # most are
        at += 1
    else:
        zigzag, at = _varint(data, at)
        if zigzag >> BITS[kind]:
            raise ValueError(f"an integer of more than {BITS[kind]} bits")
    return zigzag >> 1 ^ -(zigzag & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = place = 0
    for byte in data[at : at + LONGEST_VARINT]:
        value |= (byte & 127) << place
        place += 7
        if byte < 128:
            return value, at + place // 7
    if len(data) - at < LONGEST_VARINT:
        raise ValueError("cut off")
    raise ValueError("an integer of more than 64 bits")


def _write(kind: int, value: Any) -> bytes:
    if kind in (I16, I32, I64):
        return _write_varint(_zigzag(value))
    if kind == BINARY:
        return _write_varint(len(value)) + bytes(value)
    if kind == STRUCT:
        return write_struct(value)
    if kind in (LIST, SET):
        size = len(value.values)
        head = bytes([size << 4 | value.type]) if size < 15 else bytes([240 | value.type])
        long = b"" if size < 15 else _write_varint(size)
        return head + long + b"".join(_write(value.type, item) for item in value.values)
    if kind in (TRUE, FALSE, BYTE):
        return bytes([value])
    return struct.pack("<d", value)


def _write_varint(value: int) -> bytes:
    octets = bytearray()
    while value > 127:
        octets.append(value & 127 | 128)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1
