"""A table's columns as arrays, for rules that look at all rows at once, and words for its rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hwprof.lut.schema import USABLE_STATES
from hwprof.lut.table import Lut
from hwprof.text import listed as text_listed

NAMED = 3
ID_DIGITS = 8
NO_DEVICE = ("simulated", "replay")
"""Backends whose numbers come from a formula or a record: there equal or round numbers mean nothing."""

Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]
Numbers = NDArray[np.float64]


class View:
    """Columns of a table, converted once. Rows are positions in the table."""

    def __init__(self, lut: Lut) -> None:
        self.lut = lut
        self._columns: dict[str, pa.ChunkedArray] = {}
        self._numbers: dict[str, Numbers] = {}
        self._codes: dict[str, Indices] = {}

    def __len__(self) -> int:
        return len(self.lut)

    def column(self, name: str) -> pa.ChunkedArray:
        """As stored, text as plain text."""
        if name not in self._columns:
            column = self.lut.columns([name]).column(0)
            plain = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
            self._columns[name] = column.cast(plain)
        return self._columns[name]

    def numbers(self, name: str) -> Numbers:
        """A numeric column, null as NaN."""
        if name not in self._numbers:
            self._numbers[name] = self.column(name).cast(pa.float64()).to_numpy()
        return self._numbers[name]

    def codes(self, name: str) -> Indices:
        """Whole numbers as they are; of text, one for each distinct value. Null is -1."""
        if name not in self._codes:
            column = self.column(name)
            if pa.types.is_string(column.type):
                column = pc.index_in(column, column.drop_null().unique())
            self._codes[name] = column.cast(pa.int64()).fill_null(-1).to_numpy()
        return self._codes[name]

    def texts(self, name: str, rows: Sequence[int] | Indices) -> list[str]:
        """A text column of some rows; null as `None`."""
        taken = self.column(name).take(pa.array(rows, pa.int64()))
        return [str(text) for text in taken.to_pylist()]

    def is_in(self, name: str, values: Sequence[str]) -> Flags:
        """Where a text column has one of the values."""
        flags: Flags = pc.is_in(self.column(name), pa.array(values, pa.string())).to_numpy()
        return flags

    @cached_property
    def priced(self) -> Flags:
        """Rows of single ops that a search uses and whose latency is a number above zero."""
        return self.is_in("granularity", ["op"]) & self.usable

    @cached_property
    def usable(self) -> Flags:
        """Rows of ops, pairs and networks in a state to use, with a number above zero."""
        latency = self.numbers("latency_ms")
        with np.errstate(invalid="ignore"):
            sound = np.isfinite(latency) & (latency > 0)
        return sound & self.is_in("state", USABLE_STATES)

    @cached_property
    def timed(self) -> Flags:
        """Of `priced`, the rows that a device was timed for."""
        return self.priced & ~self.is_in("backend", NO_DEVICE)

    def groups(self, rows: Flags, *names: str) -> Iterator[tuple[tuple[str | int | None, ...], Indices]]:
        """The rows that agree in the named columns, with the values they agree in."""
        chosen = np.flatnonzero(rows)
        if not len(chosen):
            return
        columns = [self.codes(name)[chosen] for name in names]
        order = np.lexsort(columns[::-1])
        changes = np.any([np.diff(column[order]) != 0 for column in columns], axis=0)
        for part in np.split(chosen[order], np.flatnonzero(changes) + 1):
            yield tuple(self.column(name)[int(part[0])].as_py() for name in names), np.sort(part)

    def ids(self, rows: Sequence[int] | Indices) -> tuple[str, ...]:
        """Op ids of rows, each once."""
        return tuple(dict.fromkeys(self.texts("op_id", rows)))

    def name(self, row: int) -> str:
        """Label and the first digits of the op id."""
        return f"{self.texts('label', [row])[0]} ({self.texts('op_id', [row])[0][:ID_DIGITS]})"

    def names(self, rows: Sequence[int] | Indices) -> str:
        """The first rows by name, and how many more there are."""
        return listed([self.name(int(row)) for row in rows[:NAMED]], len(rows))

    def where(self, environment_id: str | int | None) -> str:
        """` in environment X` where the table has rows of several, else nothing."""
        several = len(self.column("environment_id").unique()) > 1
        return f" in environment {environment_id}" if several else ""


def listed(first: Sequence[str], count: int) -> str:
    """The first few of `count` things in words: `a, b, c and 4 more`."""
    return text_listed(first, NAMED, count)


def counted(count: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
