"""A table or visits file in the making: it gets its name only when whole."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from hwprof import __version__
from hwprof.errors import LutError
from hwprof.lut.content import ContentDigest
from hwprof.lut.files import Stamp, partial_path, replacing, sync_folder
from hwprof.lut.reading import PREFIX
from hwprof.lut.schema import (
    COLUMNS,
    METADATA,
    ORDER,
    SCHEMA_VERSION,
    VISIT_COLUMNS,
    VISITS_METADATA,
    VISITS_ORDER,
    Column,
    arrow_schema,
    few_valued,
    repeating,
)
from hwprof.stats import INTERVAL_LEVEL

# Few row groups keep the footer short: opening a table of ten million rows reads all of it.
ROWS_PER_GROUP = 1 << 18
# In large pages the ops of many environments repeat, and level 3 of zstd looks back far enough to find
# them: 58 bytes a row of 50 environments with 20,000 ops each, 67 with pages of 32,768 rows. Merging
# holds a page of every column of every table.
ROWS_PER_PAGE = 1 << 17
# Encodings are those that every reader knows: Spark's vectorised one reads neither BYTE_STREAM_SPLIT,
# which would save 4 bytes a row, nor DELTA_LENGTH_BYTE_ARRAY.
WRITING: dict[str, Any] = {
    "compression": "zstd", "compression_level": 3, "data_page_size": 64 << 20, "store_schema": False,
    "write_page_checksum": True,
}  # fmt: skip
if "max_rows_per_page" in inspect.signature(pq.ParquetWriter).parameters:
    WRITING["max_rows_per_page"] = ROWS_PER_PAGE  # older pyarrow has no such limit


class PartialFile:
    """A file under a temporary name in the folder of its later name. Rows are appended in their order;
    leaving the context removes what has not been renamed.

    Attributes:
        place: the later name.
        rows: how many were appended.
        content_hash: of the rows, once sealed.
    """

    def __init__(self, place: Path, kind: str) -> None:
        """`kind` is `table` or `visits`."""
        self.place = place
        self.rows = 0
        self.content_hash = ""
        self._kind = kind
        self._columns = COLUMNS if kind == "table" else VISIT_COLUMNS
        self._partial = partial_path(place)
        self._schema = coded_schema(self._columns)
        self._digest = ContentDigest(self._schema)
        self._waiting: list[pa.Table] = []
        self._coming: list[Future[None]] = []

    def __enter__(self) -> PartialFile:
        with worded(self.place):
            self._file = self._partial.open("wb")
        self._beside = ThreadPoolExecutor(2)  # a group is written and hashed while the next one comes
        order = ORDER if self._kind == "table" else VISITS_ORDER
        self._writer = pq.ParquetWriter(
            self._file,
            self._schema,
            use_dictionary=repeating(self._columns),
            sorting_columns=pq.SortingColumn.from_ordering(
                self._schema, [(name, "ascending") for name in order]
            ),
            **WRITING,
        )
        return self

    def __exit__(self, *_: object) -> None:
        """What fails here is about a file that is thrown away: one that is kept was synced."""
        self._beside.shutdown()
        with contextlib.suppress(OSError, pa.ArrowException):
            self._writer.close()
        with contextlib.suppress(OSError):
            self._file.close()
        self._partial.unlink(missing_ok=True)

    def append(self, table: pa.Table) -> None:
        """Add checked rows, which follow those before them in the file's order.

        Raises:
            LutError: the disk is full or the like.
        """
        self.rows += table.num_rows
        self._waiting.append(coded(table, self._schema))
        if sum(part.num_rows for part in self._waiting) >= ROWS_PER_GROUP:
            self._write(whole_groups=True)

    def seal(self, metadata: Mapping[str, Any]) -> None:
        """Write what is left and the metadata (those that hwprof computes are added), and sync.

        Raises:
            LutError: as `append`.
        """
        self._write(whole_groups=False)
        self._finish_group()
        self.content_hash = self._digest.hexdigest()
        values = {
            **metadata,
            "file_kind": self._kind,
            "schema_version": SCHEMA_VERSION,
            "content_hash": self.content_hash,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "hwprof_version": __version__,
            "interval_level": INTERVAL_LEVEL,
        }
        names = METADATA if self._kind == "table" else VISITS_METADATA
        text = {PREFIX + name: json.dumps(values[name], sort_keys=True) for name in names}
        with worded(self.place):
            self._writer.add_key_value_metadata(text)
            self._writer.close()
            self._file.flush()
            os.fsync(self._file.fileno())

    def rename(self) -> None:
        os.replace(self._partial, self.place)

    def _write(self, *, whole_groups: bool) -> None:
        table = pa.concat_tables(self._waiting or [self._schema.empty_table()])
        rows = table.num_rows
        end = rows - rows % ROWS_PER_GROUP if whole_groups else rows
        for start in range(0, end, ROWS_PER_GROUP):
            self._finish_group()
            group = table.slice(start, min(ROWS_PER_GROUP, end - start))
            self._coming = [self._beside.submit(work, group) for work in (self._write_group, self._hash)]
        self._waiting = [table.slice(end)]

    def _write_group(self, group: pa.Table) -> None:
        # A row group whose pieces have different dictionaries would be written without one.
        self._writer.write_table(group.unify_dictionaries(), row_group_size=ROWS_PER_GROUP)

    def _hash(self, group: pa.Table) -> None:
        self._digest.update(group)

    def _finish_group(self) -> None:
        """Wait for the group that is being written."""
        with worded(self.place):
            for work in self._coming:
                work.result()
        self._coming = []


def put_in_place(
    files: Sequence[PartialFile], expected: Stamp | Literal["anything"] = "anything"
) -> None:
    """Give sealed files of one folder their names, in the given order, the table last.

    Args:
        expected: what `stamp_of` said of the table that is replaced when it was read.

    Raises:
        LutError: another process has written the table since: nothing is replaced. Or a name cannot be
            given; those before it are.
    """
    target = files[-1].place
    with worded(target, "what was there may be replaced in part"), replacing(target, expected):
        for file in files:
            file.rename()
        sync_folder(target.parent)


@contextlib.contextmanager
def worded(place: Path, state: str = "nothing was replaced") -> Iterator[None]:
    """Turn a failed write into one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise LutError(
            f"{place} could not be written: {reason}; {state}; free space or give a path on another disk"
        ) from error


def coded_schema(columns: tuple[Column, ...]) -> pa.Schema:
    """The file's schema with `few_valued` columns as dictionaries, which are written faster."""
    schema = arrow_schema(columns)
    for name in few_valued(columns):
        place = schema.get_field_index(name)
        field = schema.field(place)
        schema = schema.set(place, field.with_type(pa.dictionary(pa.int32(), field.type)))
    return schema


def coded(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table's columns as a `coded_schema` has them."""
    arrays = []
    for field in schema:
        column = table.column(field.name)
        if pa.types.is_dictionary(field.type) and not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        arrays.append(column)
    return pa.table(arrays, schema=schema)
