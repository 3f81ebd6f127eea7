"""Files of older schemas, read as today's. Each version says what its files may lack or have otherwise;
everything else in them is checked as in a file of today."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from hwprof.lut.rows import as_column
from hwprof.lut.schema import DOUBLE, SINGLE, Column

CODED = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True)
class Version:
    """What files of a schema version have otherwise than those of today.

    Attributes:
        absent: columns that they may lack; read as null.
        doubles: whether columns that are single precision today may be double.
    """

    absent: tuple[str, ...] = ()
    doubles: bool = False


VERSIONS: Mapping[int, Version] = {
    # Before its release schema 1 had no `origin`, and all its measured numbers were double.
    1: Version(absent=("origin",), doubles=True),
}


def as_written(version: int, columns: tuple[Column, ...], schema: pa.Schema) -> tuple[Column, ...]:
    """The columns that a file of this version and Arrow schema must have."""
    old = VERSIONS[version]
    found = {name: schema.field(name).type for name in schema.names if schema.names.count(name) == 1}
    written = []
    for column in columns:
        if column.name in old.absent and column.name not in schema.names:
            continue
        if old.doubles and column.type == SINGLE and found.get(column.name) == DOUBLE:
            column = replace(column, type=DOUBLE)
        written.append(column)
    return tuple(written)


def as_today(table: pa.Table, names: Sequence[str], columns: tuple[Column, ...]) -> pa.Table:
    """The named columns of a table that was read as it was written."""
    known = {column.name: column for column in columns}
    made = {}
    for name in names:
        column = known[name]
        if name not in table.column_names:
            made[name] = pa.nulls(table.num_rows, CODED if column.few_values else column.type)
        elif table.schema.field(name).type == DOUBLE and column.type == SINGLE:
            made[name] = as_column(column, table.column(name))
        else:
            made[name] = table.column(name)
    return pa.table(made)
