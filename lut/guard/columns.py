"""Reading columns of a file that nobody vouches for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hwprof.lut.guard.footer import Footer
from hwprof.lut.guard.limits import too_large
from hwprof.lut.guard.pages import CODED, walk
from hwprof.lut.guard.text import check_text, text_size
from hwprof.lut.schema import Column, few_valued

# Names are printed; prose may be what a runtime said; a network's ops take about 300 bytes each.
# Words tell kinds of rows apart, and errors list several such kinds in one line.
LONGEST_WORD, LONGEST_NAME, LONGEST_PROSE, LONGEST_OPS = 1 << 6, 1 << 10, 1 << 16, 1 << 22
LONGEST = {
    **dict.fromkeys(("granularity", "cache", "state", "dtype", "environment_id"), LONGEST_WORD),
    "space": LONGEST_WORD * 4,
    "op_json": LONGEST_OPS,
    **dict.fromkeys(
        ("reason", "tuning", "placement", "energy_reason", "peak_memory_source", "kernel_mix"),
        LONGEST_PROSE,
    ),
}
# Python's datetime holds the years 1 to 9999; a day is left at both ends for offsets.
FIRST_MS = int(datetime(1, 1, 2, tzinfo=UTC).timestamp() * 1000)
LAST_MS = int(datetime(9999, 12, 30, tzinfo=UTC).timestamp() * 1000)
# Whole numbers up to here are exact in double precision, to which readers turn them.
MOST_EXACT = 1 << 53
CODED_TEXT = pa.dictionary(pa.int32(), pa.string())


class Columns:
    """The columns of an open file whose schema was checked.

    All that was read from it counts towards what it may take, whether it was dropped since or not.
    Columns of few values are read dictionary-encoded, and so is text that is stored so.

    Attributes:
        facts: the footer as Arrow has read it. What it says of a column in a row group is not checked:
            ask `statistics`.
    """

    def __init__(
        self,
        path: Path,
        source: pa.NativeFile,
        opened: pq.ParquetFile,
        footer: Footer,
        columns: tuple[Column, ...],
        needed: Collection[str],
        end: int,
        allowed: int,
    ) -> None:
        """Made by `hwprof.lut.reading`.

        Args:
            opened: `source` as Parquet.
            needed: names of the columns without which a row is none: null is refused.
            end: where the file's pages end.
            allowed: memory that reading may take, in bytes.

        Raises:
            LutError: columns of so many rows would take more memory than they may.
        """
        width = sum(4 if column.type == pa.string() else column.type.bit_width / 8 for column in columns)
        if (least := int(width * footer.num_rows)) > allowed:
            raise too_large(path, least, allowed)
        self._path = path
        self._source = source
        self._footer = footer
        self.facts = opened.metadata
        self._columns = {column.name: column for column in columns}
        self._needed = frozenset(needed)
        self._few = set(few_valued(columns))
        self._places = {name: number for number, name in enumerate(opened.schema_arrow.names)}
        self._coded = set(self._few)
        self._end = end
        self._allowed = allowed
        self._taken: dict[tuple[str, tuple[int, ...]], int] = {}
        self._file = self._opened()

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    def read(self, names: Sequence[str], groups: Sequence[int]) -> pa.Table:
        """The named columns of some row groups.

        Raises:
            ValueError: what is stored is not what the footer says, or no column may hold it.
            LutError: it would take more memory than it may.
            pa.ArrowException, OSError: Arrow cannot decode it.
        """
        groups = self._with_rows(groups)
        if not groups:
            return self._empty(names)
        rows = self._walk(names, groups)
        table = self._checked(
            self._file.read_row_groups(list(groups), columns=list(names)), names, groups
        )
        if table.num_rows != rows:
            raise ValueError(f"{table.num_rows} rows, its footer says {rows}")
        return table

    def batches(self, names: Sequence[str], groups: Sequence[int], rows: int) -> Iterator[pa.Table]:
        """As `read`, `rows` at a time."""
        if groups := self._with_rows(groups):
            self._walk(names, groups)
            for batch in self._file.iter_batches(rows, row_groups=list(groups), columns=list(names)):
                yield self._checked(pa.Table.from_batches([batch]), names, groups)

    def _with_rows(self, groups: Sequence[int]) -> tuple[int, ...]:
        """Arrow may ask an empty row group for pages that it does not have."""
        return tuple(group for group in groups if self._footer.groups[group].num_rows)

    def statistics(self, name: str, groups: Sequence[int]) -> list[pq.Statistics | None]:
        """What the footer says of a column's values, for each of some row groups.

        Raises:
            ValueError: it contradicts itself.
        """
        place, found = self._places[name], []
        for group in groups:
            self._footer.chunk(group, place)  # of one that contradicts itself, Arrow ends the process
            found.append(self.facts.row_group(group).column(place).statistics)
        return found

    def _empty(self, names: Sequence[str]) -> pa.Table:
        kinds = {name: CODED_TEXT if name in self._few else self._columns[name].type for name in names}
        return pa.schema(list(kinds.items())).empty_table()

    def _walk(self, names: Sequence[str], groups: tuple[int, ...]) -> int:
        """Check the pages of columns before Arrow decodes them; the number of rows."""
        stored = 0
        coded = len(self._coded)
        for name in names:
            needed, text = 0, self._columns[name].type == pa.string()
            for group in groups:
                try:
                    chunk = self._footer.chunk(group, self._places[name])
                    pages = walk(self._source, chunk, self._footer.groups[group].num_rows, self._end)
                except ValueError as error:
                    raise ValueError(f"column {name}: {error}") from None
                if text and set(CODED).intersection(chunk.encodings):
                    self._coded.add(name)
                elif text and pages.coded and name not in self._coded:
                    raise ValueError(f"column {name} is dictionary-encoded, its footer says it is not")
                needed, stored = needed + pages.bytes, stored + chunk.stored_bytes
            self._take(name, groups, needed)
        if len(self._coded) > coded:
            self._file = self._opened()
        if stored > self._end:
            raise ValueError("its columns lie over each other")
        return sum(self._footer.groups[number].num_rows for number in groups)

    def _opened(self) -> pq.ParquetFile:
        return pq.ParquetFile(
            self._source,
            metadata=self.facts,
            read_dictionary=sorted(self._coded),
            page_checksum_verification=True,
        )

    def _checked(self, table: pa.Table, names: Sequence[str], groups: tuple[int, ...]) -> pa.Table:
        """What Arrow has read, its values checked, columns of the types that readers expect."""
        table = table.select(list(names))
        table.validate(full=True)  # a damaged page header can pass the checksums
        columns = {}
        for name in names:
            try:
                columns[name] = self._checked_column(name, table.column(name), groups)
            except ValueError as error:
                raise ValueError(f"column {name}: {error}") from None
        return pa.table(columns)

    def _checked_column(
        self, name: str, column: pa.ChunkedArray, groups: tuple[int, ...]
    ) -> pa.ChunkedArray:
        kind = self._columns[name].type
        if name in self._needed and column.null_count:
            raise ValueError(f"null in {column.null_count} rows, of which none may be")
        if pa.types.is_timestamp(kind) and not _between(column, FIRST_MS, LAST_MS):
            raise ValueError("a date before year 1 or after 9999")
        if kind == pa.int64() and not _between(column, -MOST_EXACT, MOST_EXACT):
            raise ValueError("a number beyond 2^53")
        if kind != pa.string():
            return column
        check_text(column, LONGEST.get(name, LONGEST_NAME))
        if not pa.types.is_dictionary(column.type):
            return column
        self._take(name, groups, text_size(column), more=True)
        return column.cast(CODED_TEXT if name in self._few else kind)

    def _take(self, name: str, groups: tuple[int, ...], needed: int, more: bool = False) -> None:
        """Count what a column takes."""
        before = self._taken.get((name, groups), 0) if more else 0
        self._taken[name, groups] = before + needed
        if (taken := sum(self._taken.values())) > self._allowed:
            raise too_large(self._path, taken, self._allowed)


def _between(column: pa.ChunkedArray, first: int, last: int) -> bool:
    """Whether all values of a column of 64-bit integers or times in ms are."""
    least, most = (pc.cast(end, pa.int64()) for end in pc.min_max(column).values())
    return not least.is_valid or (least.as_py() >= first and most.as_py() <= last)
