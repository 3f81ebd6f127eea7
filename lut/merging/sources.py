"""The tables that are merged, read in order, some rows at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hwprof.errors import LutError
from hwprof.lut.merging.metadata import origin_of
from hwprof.lut.merging.sorted_rows import RANKED, Keys, Ranks
from hwprof.lut.partial import coded, coded_schema
from hwprof.lut.reading import DAMAGED, StoredTable, open_table, open_visits, visits_path_of
from hwprof.lut.rows import check_table, check_visit_values, conform
from hwprof.lut.schema import COLUMNS, ORDER, VISIT_COLUMNS, VISITS_ORDER, Column

BLOCK_ROWS = 1 << 14
Block = tuple[pa.Table, Keys]


@dataclass(frozen=True)
class Input:
    """An open table and, if it was written with them and they are wanted, its visits."""

    table: StoredTable
    visits: StoredTable | None

    @property
    def path(self) -> Path:
        return self.table.path

    def values(self) -> dict[str, set[str]]:
        """All values of the few-valued key columns.

        Raises:
            LutError: one of them is null, or the file is damaged.
        """
        found = {name: self.table.read([name]).column(0).unique().to_pylist() for name in RANKED}
        for name, values in found.items():
            if None in values:
                raise LutError(f"{self.path}: column {name} holds null; {DAMAGED}")
        return {name: set(values) for name, values in found.items()}

    def table_blocks(self, ranks: Ranks) -> Iterator[Block]:
        """Rows in order with their keys; rows that have no origin get this table's."""
        origin = origin_of(self.table.metadata)
        place = [column.name for column in COLUMNS].index("origin")
        for block in _blocks(self.table, COLUMNS, ORDER, check_table):
            filled = _filled(block.column("origin"), origin)
            yield block.set_column(place, "origin", filled), ranks.table_keys(block)

    def visit_blocks(self, ranks: Ranks) -> Iterator[Block]:
        """Visits in order with their keys."""
        if self.visits is not None:
            for block in _blocks(self.visits, VISIT_COLUMNS, VISITS_ORDER, check_visit_values):
                yield block, ranks.visit_keys(block)


def open_inputs(paths: Sequence[Path], *, visits: bool) -> list[Input]:
    """Open tables, with their visits where they are wanted and there are any.

    Raises:
        LutError: a file cannot be read, or visits are missing or belong to another table.
    """
    inputs = []
    for path in paths:
        table = open_table(path)
        stored = None
        if visits and table.metadata["visits_hash"] is not None:
            place = visits_path_of(path)
            if not os.path.exists(place):
                raise LutError(
                    f"{path} was written with visits, but {place} is not there; copy it beside the "
                    "table, or leave all visits out with --without-visits"
                )
            stored = open_visits(place)
            if stored.metadata["content_hash"] != table.metadata["visits_hash"]:
                raise LutError(
                    f"{place} holds the visits of another table than {path} (their hashes differ); "
                    "restore both files of one build, or leave all visits out with --without-visits"
                )
        inputs.append(Input(table, stored))
    return inputs


def _blocks(
    stored: StoredTable,
    columns: tuple[Column, ...],
    order: Sequence[str],
    check: Callable[[pa.Table], None],
) -> Iterator[pa.Table]:
    """A file's rows in order, checked. One that does not say that it is sorted so is read whole and
    sorted."""
    schema = coded_schema(columns)
    names = [column.name for column in columns]
    if _is_sorted_by(stored.facts, order):
        blocks = stored.batches(names, BLOCK_ROWS)
    else:
        whole = conform(stored.read(names), columns).sort_by([(name, "ascending") for name in order])
        blocks = (whole.slice(at, BLOCK_ROWS) for at in range(0, whole.num_rows, BLOCK_ROWS))
    for block in blocks:
        try:
            check(block)
        except LutError as error:
            raise LutError(f"{stored.path}: {error}") from None
        yield coded(block, schema)


def _is_sorted_by(facts: pq.FileMetaData, order: Sequence[str]) -> bool:
    for group in range(facts.num_row_groups):
        told = facts.row_group(group).sorting_columns
        found = [(facts.schema.column(each.column_index).path, each.descending) for each in told]
        if found != [(name, False) for name in order]:
            return False
    return True


def _filled(column: pa.ChunkedArray, origin: str) -> pa.ChunkedArray:
    """The column with the origin in place of nulls, dictionary-encoded."""
    if not column.null_count:
        return column
    plain = column.cast(pa.string())
    return pc.fill_null(plain, origin).dictionary_encode()
