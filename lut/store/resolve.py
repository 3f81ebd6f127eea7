"""From the rows of a store to a table: each key once, by the rules of `hwprof.lut.merging`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hwprof.errors import LutError
from hwprof.lut.merging.conflicts import Conflicts
from hwprof.lut.rows import conform
from hwprof.lut.schema import COLUMNS, KEY, VISIT_COLUMNS
from hwprof.text import visible

NAMES = [column.name for column in COLUMNS]
BELONGING = [*KEY, "batch_id"]
VISITS = [column.name for column in VISIT_COLUMNS]


@dataclass(frozen=True)
class Resolved:
    """One row a key.

    Attributes:
        rows: columns of a table and `batch_id`, `source_id`, `pushed_at`.
        same: key and `batch_id` of each row that is equal to one of `rows` in all but its origin.
        repeated: rows that were there more than once, the same in all but origin; one of each is kept.
        replaced: rows that another one of their key was taken for.
    """

    rows: pa.Table
    same: pa.Table
    repeated: int
    replaced: int


def resolve(stored: pa.Table, rule: str) -> Resolved:
    """One row of each key, by a rule of `hwprof.lut.merging`.

    Raises:
        LutError: the rule is unknown, or it is `refuse` and rows of one key differ, or these are not
            the rows of tables.
    """
    conflicts = Conflicts(rule)
    compared = conform(stored.select(NAMES), COLUMNS)
    if not stored.num_rows:
        return Resolved(stored, stored.select(BELONGING), 0, 0)
    numbers = _numbers(stored)
    origins = pc.fill_null(stored.column("origin"), "")
    stays, differs = conflicts.resolve(_named(compared, origins), numbers)
    if rule == "refuse" and conflicts.count:
        # In place of the tables, a refusal names the batches.
        batches = Conflicts(rule)
        batches.resolve(_named(compared, stored.column("batch_id")), numbers)
        raise LutError(visible(str(batches.refusal())))
    rows = stored.filter(pa.array(stays))
    same = stored.select(BELONGING).filter(pa.array(~differs))
    return Resolved(rows, same, conflicts.same, stored.num_rows - rows.num_rows - conflicts.same)


def visits_of(resolved: Resolved, visited: pa.Table) -> pa.Table:
    """The visits of the rows that were kept: those of their key in every batch that has the same row,
    each once.

    Raises:
        LutError: they do not have the columns of visits.
    """
    if missing := sorted({*VISITS, "batch_id"} - set(visited.column_names)):
        raise LutError(f"the store's visits have no column {missing[0]}; another tool changed them")
    theirs = visited.join(resolved.same, BELONGING, join_type="left semi")
    return theirs.select(VISITS).group_by(VISITS, use_threads=False).aggregate([])


def _named(rows: pa.Table, names: pa.ChunkedArray) -> pa.Table:
    """Rows of tables with these names as their origins."""
    return rows.set_column(NAMES.index("origin"), "origin", names.cast(pa.string()))


def _numbers(rows: pa.Table) -> NDArray[np.int64]:
    """A number for each row, equal where the keys are."""
    texts = pc.binary_join_element_wise(*(rows.column(name).cast(pa.string()) for name in KEY), "\0")
    coded = texts.combine_chunks().dictionary_encode()
    return np.asarray(coded.indices.to_numpy(), np.int64)
