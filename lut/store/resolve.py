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

NAMES = [column.name for column in COLUMNS]
VISITS = [column.name for column in VISIT_COLUMNS]


@dataclass(frozen=True)
class Resolved:
    """One row a key.

    Attributes:
        rows: columns of a table and `batch_id`, `source_id`, `pushed_at`.
        repeated: rows that were there more than once, the same in every column; one of each is kept.
        replaced: rows that another one of their key was taken for.
    """

    rows: pa.Table
    repeated: int
    replaced: int


def resolve(stored: pa.Table, rule: str) -> Resolved:
    """One row of each key, by a rule of `hwprof.lut.merging`.

    Raises:
        LutError: the rule is unknown, or it is `refuse` and rows of one key differ, or these are not
            the rows of tables.
    """
    conflicts = Conflicts(rule)
    # What a refusal names in place of the tables are the batches.
    compared = conform(stored.select(NAMES), COLUMNS).set_column(
        NAMES.index("origin"), "origin", stored.column("batch_id").cast(pa.string())
    )
    if not stored.num_rows:
        return Resolved(stored, 0, 0)
    stays, _ = conflicts.resolve(compared, _numbers(stored))
    if rule == "refuse" and conflicts.count:
        raise conflicts.refusal()
    rows = stored.filter(pa.array(stays))
    return Resolved(rows, conflicts.same, stored.num_rows - rows.num_rows - conflicts.same)


def visits_of(kept: pa.Table, visited: pa.Table) -> pa.Table:
    """The visits of the rows that were kept: those of their key and batch, each once.

    Raises:
        LutError: they do not have the columns of visits.
    """
    if missing := sorted({*VISITS, "batch_id"} - set(visited.column_names)):
        raise LutError(f"the store's visits have no column {missing[0]}; another tool changed them")
    belonging = [*KEY, "batch_id"]
    theirs = visited.join(kept.select(belonging), belonging, join_type="left semi")
    return theirs.select(VISITS).group_by(VISITS, use_threads=False).aggregate([])


def _numbers(rows: pa.Table) -> NDArray[np.int64]:
    """A number for each row, equal where the keys are."""
    texts = pc.binary_join_element_wise(*(rows.column(name).cast(pa.string()) for name in KEY), "\0")
    coded = texts.combine_chunks().dictionary_encode()
    return np.asarray(coded.indices.to_numpy(), np.int64)
