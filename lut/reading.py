"""Opening table and visits files: what they must be, and one clear line when they are not.

A file may come from a stranger. What Arrow believes of it is checked first (`hwprof.lut.guard`);
docs/trust.md says what is refused and why.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hwprof.errors import LutError
from hwprof.lut.guard.columns import Columns
from hwprof.lut.guard.footer import check_flat, read_footer
from hwprof.lut.guard.limits import (
    FOR_EACH_FOOTER_BYTE,
    MAGIC,
    TAIL_BYTES,
    allowed_bytes,
    footer_start,
    too_large,
)
from hwprof.lut.guard.metadata import check_shape, parse
from hwprof.lut.schema import (
    COLUMNS,
    KEY,
    METADATA,
    SCHEMA_VERSION,
    VISIT_COLUMNS,
    VISITS_METADATA,
    Column,
)
from hwprof.lut.versions import as_today, as_written
from hwprof.text import listed, shown

PREFIX = "hwprof."
SIGNATURE = "signature"
# What pyarrow raises for damaged bytes; ValueError for names that are no UTF-8.
UNREADABLE = (pa.ArrowException, OSError, ValueError, MemoryError)
DAMAGED = (
    "restore it from a copy, or run its `hwprof build-lut` command again (a kept journal is reused)"
)
LATER_METADATA = ("validation", "merged", "title", "authors")
"""Keys that tables of schema 1 did not always have: null where they are absent."""
NEEDED = (*KEY, "kind", "label", "op_json", "state")
"""Columns without which a row is none. `lut lint` names other nulls that the schema forbids."""
NAMED = 5


@dataclass(frozen=True)
class StoredTable:
    """An open table or visits file: its metadata is read, its columns are read on demand. The open
    file stays the one that was checked, also when another build replaces it under its name.

    Attributes:
        stored_metadata: the `hwprof.` keys as the bytes that stand in the file.
        columns: the file's own columns.
        today: the columns that are read from them, whatever the version of the file.
    """

    path: Path
    metadata: Mapping[str, Any]
    stored_metadata: Mapping[str, bytes]
    num_rows: int
    columns: Columns
    today: tuple[Column, ...]

    @property
    def facts(self) -> pq.FileMetaData:
        """See `Columns.facts`."""
        return self.columns.facts

    def statistics(self, name: str, row_groups: Sequence[int]) -> list[pq.Statistics | None]:
        """What the footer says of a column's values, for each of some row groups.

        Raises:
            LutError: it contradicts itself.
        """
        with _worded(self.path):
            return self.columns.statistics(name, row_groups)

    def read(self, names: Sequence[str], row_groups: Sequence[int] | None = None) -> pa.Table:
        """The named columns, those of few values dictionary-encoded; of some row groups or of all.

        Raises:
            LutError: a page is damaged (its checksum does not match), the file says other things than
                it holds, text holds control characters, or it takes more memory than it may.
        """
        with _worded(self.path):
            table = self.columns.read(self._there(names), self._groups(row_groups))
            return as_today(table, names, self.today)

    def batches(
        self, names: Sequence[str], rows: int, row_groups: Sequence[int] | None = None
    ) -> Iterator[pa.Table]:
        """As `read`, at most `rows` of the file at a time."""
        with _worded(self.path):
            for batch in self.columns.batches(self._there(names), self._groups(row_groups), rows):
                yield as_today(batch, names, self.today)

    def _there(self, names: Sequence[str]) -> list[str]:
        """Those of the names that the file has; one at least, which tells how many rows there are."""
        return [name for name in names if name in self.columns] or [self.today[0].name]

    def _groups(self, row_groups: Sequence[int] | None) -> Sequence[int]:
        return range(self.facts.num_row_groups) if row_groups is None else row_groups


def visits_path_of(path: Path) -> Path:
    """Where the visits of a table lie: `NAME.visits.parquet` beside `NAME.parquet`."""
    return path.with_name(f"{path.name.removesuffix('.parquet')}.visits.parquet")


def open_table(path: Path) -> StoredTable:
    """Open and check a table's file; no column is read yet.

    Raises:
        LutError: missing, a folder, cut off, not Parquet, no hwprof table, of a newer schema, or with
            metadata or a footer that no table has.
    """
    return _open(path, "table", COLUMNS, NEEDED, tuple(METADATA))


def open_visits(path: Path) -> StoredTable:
    """Open and check a visits file; no column is read yet.

    Raises:
        LutError: as `open_table`.
    """
    needed = [column.name for column in VISIT_COLUMNS if not column.null_when]
    return _open(path, "visits", VISIT_COLUMNS, needed, VISITS_METADATA)


def _open(
    path: Path, kind: str, columns: tuple[Column, ...], needed: Sequence[str], keys: Sequence[str]
) -> StoredTable:
    source = _open_file(path)
    allowed = allowed_bytes(source.size())
    with _worded(path):
        end = footer_start(source)
        size = source.size() - TAIL_BYTES - end
        if (taken := size * FOR_EACH_FOOTER_BYTE) > allowed:
            raise too_large(path, taken, allowed)
        footer = read_footer(source.read_at(size, end))
    stored = _stored_metadata(path, footer.metadata)
    metadata = _parsed(path, stored)
    version = metadata.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise LutError(
            f"{path} has schema_version {shown(repr(version))}, which is no version; {DAMAGED}"
        )
    if version > SCHEMA_VERSION:
        raise LutError(
            f"{path} has schema {version}, this hwprof reads schema {SCHEMA_VERSION}; upgrade hwprof"
        )
    if metadata.get("file_kind") != kind:
        raise LutError(
            f"{path} holds {shown(repr(metadata.get('file_kind')))}, not a {kind}; "
            "a table is NAME.parquet, its visits are NAME.visits.parquet"
        )
    with _worded(path):
        check_flat(footer)
        file = pq.ParquetFile(source)
        schema = file.schema_arrow
    written = as_written(version, columns, schema)
    _check_schema(path, schema, written)
    _check_metadata(path, metadata, keys)
    with _worded(path):
        guarded = Columns(path, source, file, footer, written, needed, end, allowed)
    known = {key: metadata[key] for key in keys}
    return StoredTable(path, known, stored, footer.num_rows, guarded, columns)


@contextlib.contextmanager
def _worded(path: Path) -> Iterator[None]:
    """Turn what is raised for damaged bytes into one line."""
    try:
        yield
    except UNREADABLE as error:
        raise LutError(f"{path} is cut off or damaged ({_short(error)}); {DAMAGED}") from None


def _open_file(path: Path) -> pa.NativeFile:
    """A file that begins as Parquet does."""
    if os.path.isdir(path):
        raise LutError(f"{path} is a folder; name the .parquet file in it")
    if os.path.exists(path) and not os.path.isfile(path):
        raise LutError(f"{path} is no regular file; name a .parquet file")
    try:
        source = pa.OSFile(str(path))
        magic = source.read_at(len(MAGIC), 0)
    except FileNotFoundError:
        raise LutError(
            f"{path} does not exist; check the name, or build it: "
            f"hwprof build-lut --backend onnxruntime --space tiny --out {path}"
        ) from None
    except UnicodeEncodeError:
        raise LutError(f"{str(path)!a} is a name that is no UTF-8; rename the file") from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else _short(error)
        raise LutError(f"{path} cannot be read: {reason}; check its permissions") from None
    if magic != MAGIC:
        what = "is empty" if not magic else "is no Parquet file"
        raise LutError(f"{path} {what}; give the .parquet file that `hwprof build-lut` wrote")
    return source


def _stored_metadata(path: Path, found: Mapping[bytes, bytes]) -> dict[str, bytes]:
    """The `hwprof.` keys of the file, without the prefix."""
    stored = {key: value for key, value in found.items() if key.startswith(PREFIX.encode())}
    if not stored:
        raise LutError(
            f"{path} is a Parquet file of another kind (it has no hwprof metadata); "
            "give one that `hwprof build-lut` wrote"
        )
    try:
        return {key.decode().removeprefix(PREFIX): value for key, value in stored.items()}
    except ValueError:
        raise LutError(f"{path}: a metadata key is no UTF-8; {DAMAGED}") from None


def _parsed(path: Path, stored: Mapping[str, bytes]) -> dict[str, Any]:
    values = {}
    for key, raw in stored.items():
        try:
            values[key] = parse(raw)
        except ValueError as error:
            problem = f"is no JSON of a table ({shown(error)})"
            raise LutError(f"{path}: metadata {PREFIX}{shown(key)} {problem}; {DAMAGED}") from None
    return values


def _check_metadata(path: Path, metadata: dict[str, Any], keys: Sequence[str]) -> None:
    for key in set(LATER_METADATA).intersection(keys):
        metadata.setdefault(key, None)
    if missing := [key for key in keys if key not in metadata]:
        raise LutError(
            f"{path} lacks the metadata {', '.join(PREFIX + key for key in missing)}; {DAMAGED}"
        )
    for key, value in metadata.items():
        try:
            check_shape(key, value)
        except ValueError as error:
            raise LutError(f"{path}: metadata {PREFIX}{key}: {error}; {DAMAGED}") from None


def _check_schema(path: Path, schema: pa.Schema, columns: tuple[Column, ...]) -> None:
    names = [column.name for column in columns]
    if missing := [name for name in names if name not in schema.names]:
        raise LutError(f"{path} lacks the columns {', '.join(missing)} of schema 1; {DAMAGED}")
    if unknown := [shown(name) for name in schema.names if name not in names]:
        raise LutError(
            f"{path} has columns that schema 1 does not know: {listed(unknown, NAMED)}; drop them"
        )
    if len(schema.names) > len(names):
        twice = next(name for name in names if schema.names.count(name) > 1)
        raise LutError(f"{path} has the column {twice} twice; {DAMAGED}")
    for column in columns:
        found = schema.field(column.name).type
        if pa.types.is_dictionary(found) and found.value_type == pa.string():
            found = found.value_type
        if found != column.type:
            raise LutError(
                f"{path}: column {column.name} is {shown(found)}, schema 1 says {column.type}; {DAMAGED}"
            )


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return shown(lines[0]) if lines else type(error).__name__
