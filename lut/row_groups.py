"""Parts of a table's file: its row groups, which statistics tell apart without reading them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hwprof.lut.reading import StoredTable


@dataclass(frozen=True)
class RowGroups:
    """Some row groups of an open file, in its order."""

    stored: StoredTable
    numbers: tuple[int, ...]

    @classmethod
    def of(cls, stored: StoredTable) -> RowGroups:
        """All row groups of a file."""
        return cls(stored, tuple(range(stored.file.metadata.num_row_groups)))

    @property
    def num_rows(self) -> int:
        return sum(self.stored.file.metadata.row_group(number).num_rows for number in self.numbers)

    def holding(self, wanted: Mapping[str, Sequence[Any]]) -> RowGroups:
        """Those that may hold rows whose columns have one of the wanted values."""
        numbers = self.numbers
        there = {name: values for name, values in wanted.items() if name in self.stored.columns}
        for name, values in there.items():
            found = zip(numbers, RowGroups(self.stored, numbers)._of(name), strict=True)
            numbers = tuple(number for number, statistics in found if _may_hold(statistics, values))
        return RowGroups(self.stored, numbers)

    def _of(self, name: str) -> list[Any]:
        """A column's statistics in each row group."""
        metadata = self.stored.file.metadata
        place = next(i for i in range(metadata.num_columns) if metadata.schema.column(i).path == name)
        return [metadata.row_group(number).column(place).statistics for number in self.numbers]

    def have_one_value(self, name: str) -> bool:
        """Whether statistics say that a column has the same value in all rows."""
        found = self._of(name)
        known = all(each is not None and each.has_min_max for each in found)
        return known and len({bound for each in found for bound in (each.min, each.max)}) == 1

    def with_any(self, name: str, values: Sequence[Any]) -> RowGroups:
        """Those in which a text column has one of the values; the column is read.

        Raises:
            LutError: a page is damaged.
        """
        wanted = pa.array(values, pa.string())
        found = []
        for number in self.numbers:
            one = RowGroups(self.stored, (number,))
            if pc.any(pc.is_in(one.read([name]).column(0), value_set=wanted), min_count=0).as_py():
                found.append(number)
        return RowGroups(self.stored, tuple(found))

    def read(self, names: Sequence[str]) -> pa.Table:
        """The named columns, as `StoredTable.read`.

        Raises:
            LutError: a page is damaged.
        """
        return self.stored.read(names, self.numbers)


def _may_hold(statistics: Any, values: Sequence[Any]) -> bool:
    """Whether a column chunk may hold one of the values; unknown is yes."""
    if statistics is None or not statistics.has_min_max or None in values:
        return True
    low, high = statistics.min, statistics.max
    try:
        return any(low <= value <= high for value in values)
    except TypeError:
        return True  # of another type: what uses the column says so
