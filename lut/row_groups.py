"""Parts of a table's file: its row groups, which statistics tell apart without reading them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
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
        return cls(stored, tuple(range(stored.facts.num_row_groups)))

    @property
    def num_rows(self) -> int:
        return sum(self.stored.facts.row_group(number).num_rows for number in self.numbers)

    def holding(self, wanted: Mapping[str, Sequence[Any]]) -> RowGroups:
        """Those that may hold rows whose columns have one of the wanted values."""
        numbers = self.numbers
        there = {name: values for name, values in wanted.items() if name in self.stored.columns}
        for name, values in there.items():
            found = zip(numbers, self.stored.statistics(name, numbers), strict=True)
            numbers = tuple(number for number, statistics in found if _may_hold(statistics, values))
        return RowGroups(self.stored, numbers)

    def have_one_value(self, name: str) -> bool:
        """Whether statistics say that a column has the same value in all rows."""
        found = self.stored.statistics(name, self.numbers)
        known = [each for each in found if each is not None and each.has_min_max]
        bounds = {bound for each in known for bound in (each.min, each.max)}
        return len(known) == len(found) and len(bounds) == 1

    def having(self, wanted: Mapping[str, Sequence[Any]]) -> tuple[RowGroups, pa.Table]:
        """Those in which a row has one of the wanted values in each of these text columns, and the
        columns of them. They are read group by group, and the next column only where the ones before
        leave a row.

        Raises:
            LutError: a page is damaged.
        """
        sets = {name: pa.array(values, pa.string()) for name, values in wanted.items()}
        found, parts = [], []
        for number in self.numbers:
            one = RowGroups(self.stored, (number,))
            columns: dict[str, pa.ChunkedArray] = {}
            there = np.ones(one.num_rows, dtype=bool)
            for name, values in sets.items():
                columns[name] = one.read([name]).column(0)
                left = columns[name].filter(pa.array(there))
                there[there] = pc.is_in(left, value_set=values).to_numpy()
                if not there.any():
                    break
            else:
                found.append(number)
                parts.append(pa.table(columns))
        read = pa.concat_tables(parts) if parts else self.stored.read(list(wanted), ())
        return RowGroups(self.stored, tuple(found)), read

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
