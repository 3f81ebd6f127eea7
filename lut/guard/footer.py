"""The footer of a Parquet file, read before Arrow reads it.

Arrow believes a footer: it makes room for as many rows as it names, and where Python asks for facts of a
column that contradict each other (a histogram of another length, an integer's minimum of two bytes) or
that it does not know (a codec without a name), Arrow 26 ends the process. So a column of a row group is
checked before Arrow is asked for it, and not sooner: a table of ten million rows has 2,470 of them, of
which a look-up needs a tenth.

Source: github.com/apache/parquet-format, src/main/thrift/parquet.thrift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from hwprof.lut.guard.thrift import BINARY, I32, I64, LIST, NOTHING, STRUCT, Struct, Wanted, read_struct

# Numbers of the fields that are looked at, by struct.
STATISTICS: Wanted = dict.fromkeys((1, 2, 5, 6))
SIZES: Wanted = dict.fromkeys((1, 2, 3))
COLUMN: Wanted = {**dict.fromkeys((1, 2, 3, 4, 5, 7, 9, 11, 17)), 12: STATISTICS, 16: SIZES}
CHUNK: Wanted = {1: None, 3: COLUMN, 8: None, 9: None}
BOOLEAN, INT32, INT64, FLOAT, DOUBLE, BYTE_ARRAY = 0, 1, 2, 4, 5, 6
WIDTHS = {BOOLEAN: 1, INT32: 4, FLOAT: 4, INT64: 8, DOUBLE: 8}
"""Bytes of a value of each physical type that a table has; text has none of its own."""
REQUIRED, OPTIONAL = 0, 1
CODECS = range(8)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A column in one row group.

    Attributes:
        path: names from the schema's root to it.
        kind: its physical type.
        encodings: of its pages.
        start: where its first page begins, which may be a dictionary.
        stored_bytes: of all its pages.
        histogram: how many levels it is told to have; 0 where it is not told.
    """

    path: tuple[bytes, ...]
    kind: int
    encodings: tuple[int, ...]
    num_values: int
    start: int
    stored_bytes: int
    histogram: int


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Some rows, and where in the footer each of their columns is described."""

    num_rows: int
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Footer:
    """What a file says about itself. `schema` are its columns as they stand there, `metadata` all keys
    and values."""

    num_rows: int
    schema: tuple[Struct, ...]
    groups: tuple[RowGroup, ...]
    metadata: Mapping[bytes, bytes]
    data: bytes

    def chunk(self, group: int, place: int) -> Chunk:
        """Read and check what is said of a column in a row group.

        Raises:
            ValueError: it contradicts itself or the schema, is encrypted or lies in another file.
        """
        fields, _ = read_struct(self.data, self.groups[group].places[place], wanted=CHUNK)
        chunk = _chunk(fields)
        element = self.schema[place]
        kind, levels = _value(element, 1, I32), (0, _value(element, 3, I32) + 1)
        if chunk.kind != kind or chunk.histogram not in levels:
            raise ValueError(f"column {place} is of type {kind} here and {chunk.kind} there")
        if chunk.path != (_value(element, 4, BINARY),):
            raise ValueError(f"column {place} has one name here and another there")
        return chunk


def read_footer(data: bytes) -> Footer:
    """Read and check a footer, all but what it says of columns in row groups (see `Footer.chunk`).

    Raises:
        ValueError: it is cut off, contradicts itself, or has what no table has: encryption,
            a key twice.
    """
    fields, end = read_struct(data, readers={4: partial(read_struct, readers={1: _pass_over})})
    if end != len(data) or {8, 9} & fields.keys():
        raise ValueError("its footer is encrypted or longer than it should be")
    schema = _list(fields, 2, STRUCT)
    if not schema:
        raise ValueError("its footer has no schema")
    groups = tuple(_row_group(group, len(schema) - 1) for group in _list(fields, 4, STRUCT))
    footer = Footer(_value(fields, 3, I64), schema[1:], groups, _metadata(fields), data)
    rows = sum(group.num_rows for group in groups)
    if rows != footer.num_rows:
        raise ValueError(f"its row groups have {rows} rows, its footer says {footer.num_rows}")
    return footer


def check_flat(footer: Footer) -> None:
    """Check that no column is nested.

    Raises:
        ValueError: otherwise.
    """
    for place, element in enumerate(footer.schema):
        repetition = _value(element, 3, I32)
        if repetition not in (REQUIRED, OPTIONAL) or (5 in element and _value(element, 5, I32)):
            raise ValueError(f"column {place} is nested")


def _row_group(fields: Struct, columns: int) -> RowGroup:
    places, rows = _list(fields, 1, STRUCT), _value(fields, 3, I64)
    if len(places) != columns or rows < 0:
        raise ValueError(f"a row group has {len(places)} of {columns} columns, and {rows} rows")
    for sorting in _list(fields, 4, STRUCT) if 4 in fields else ():
        if not 0 <= _value(sorting, 1, I32) < columns:
            raise ValueError("rows are sorted by a column that is not there")
    return RowGroup(rows, places)


def _metadata(fields: Struct) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for pair in _list(fields, 5, STRUCT) if 5 in fields else ():
        key = _value(pair, 1, BINARY)
        if key in found:
            raise ValueError("a key of its metadata is there twice")
        found[key] = _value(pair, 2, BINARY) if 2 in pair else b""
    return found


def _pass_over(data: bytes, at: int) -> tuple[int, int]:
    """Where a column of a row group is described, and where that ends."""
    return at, read_struct(data, at, wanted=NOTHING)[1]


def _chunk(fields: Struct) -> Chunk:
    if {1, 8, 9} & fields.keys():
        raise ValueError("a column is encrypted or lies in another file")
    meta = _value(fields, 3, STRUCT)
    if 17 in meta:
        raise ValueError("a column holds places on a map")
    if (codec := _value(meta, 4, I32)) not in CODECS:
        raise ValueError(f"a column has the unknown codec {codec}")
    kind, sizes = _value(meta, 1, I32), _value(meta, 16, STRUCT) if 16 in meta else {}
    _check_statistics(_value(meta, 12, STRUCT) if 12 in meta else {}, kind)
    if (1 in sizes and kind != BYTE_ARRAY) or (2 in sizes and len(_list(sizes, 2, I64)) > 1):
        raise ValueError("a column has a histogram of another type")
    return Chunk(
        _list(meta, 3, BINARY),
        kind,
        _list(meta, 2, I32),
        _value(meta, 5, I64),
        _first_page(_value(meta, 9, I64), _value(meta, 11, I64) if 11 in meta else 0),
        _value(meta, 7, I64),
        len(_list(sizes, 3, I64)) if 3 in sizes else 0,
    )


def _check_statistics(statistics: Struct, kind: int) -> None:
    for number in {1, 2, 5, 6} & statistics.keys():
        value = _value(statistics, number, BINARY)
        if len(value) != WIDTHS.get(kind, len(value)):
            raise ValueError("the least or largest value of a column is not of its type")
        if kind == BYTE_ARRAY:
            value.decode()


def _first_page(data: int, dictionary: int) -> int:
    """As Arrow finds it."""
    return dictionary if 0 < dictionary < data else data


def _list(fields: Struct, number: int, kind: int) -> tuple[Any, ...]:
    found = _value(fields, number, LIST)
    if found.values and found.type != kind:
        raise ValueError(f"field {number} of its footer is a list of another type")
    values: tuple[Any, ...] = found.values
    return values


def _value(fields: Struct, number: int, kind: int) -> Any:
    field = fields.get(number)
    if field is None or field.type != kind:
        raise ValueError(f"field {number} of its footer is missing or of another type")
    return field.value
