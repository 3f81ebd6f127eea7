"""Opening table and visits files: what they must be, and one clear line when they are not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hwprof.errors import LutError
from hwprof.lut.schema import (
    COLUMNS,
    METADATA,
    SCHEMA_VERSION,
    VISIT_COLUMNS,
    VISITS_METADATA,
    Column,
    few_valued,
)

PREFIX = "hwprof."
MAGIC = b"PAR1"
# What pyarrow raises for damaged bytes; ValueError for names that are no UTF-8.
UNREADABLE = (pa.ArrowException, OSError, ValueError)
DAMAGED = (
    "restore it from a copy, or run its `hwprof build-lut` command again (a kept journal is reused)"
)


@dataclass(frozen=True)
class StoredTable:
    """An open table or visits file: its metadata is read, its columns are read on demand. The open
    file stays the one that was checked, also when another build replaces it under its name."""

    path: Path
    metadata: Mapping[str, Any]
    num_rows: int
    file: pq.ParquetFile

    def read(self, names: Sequence[str]) -> pa.Table:
        """The named columns, those of few values dictionary-encoded.

        Raises:
            LutError: a page is damaged (its checksum does not match).
        """
        try:
            table = self.file.read(columns=list(names)).select(list(names))
            table.validate(full=True)  # a damaged page header can pass the checksums
        except UNREADABLE as error:
            raise LutError(f"{self.path} is damaged ({_short(error)}); {DAMAGED}") from None
        return table


def visits_path_of(path: Path) -> Path:
    """Where the visits of a table lie: `NAME.visits.parquet` beside `NAME.parquet`."""
    return path.with_name(f"{path.name.removesuffix('.parquet')}.visits.parquet")


def open_table(path: Path) -> StoredTable:
    """Open and check a table's file; no column is read yet.

    Raises:
        LutError: missing, a folder, cut off, not Parquet, no hwprof table, of a newer schema.
    """
    return _open(path, "table", COLUMNS, tuple(METADATA))


def open_visits(path: Path) -> StoredTable:
    """Open and check a visits file; no column is read yet.

    Raises:
        LutError: as `open_table`.
    """
    return _open(path, "visits", VISIT_COLUMNS, VISITS_METADATA)


def _open(path: Path, kind: str, columns: tuple[Column, ...], keys: Sequence[str]) -> StoredTable:
    file = _open_parquet(path, columns)
    metadata = _metadata(path, file)
    version = metadata.get("schema_version")
    if not isinstance(version, int) or version < 1:
        raise LutError(f"{path} has schema_version {version!r}, which is no version; {DAMAGED}")
    if version > SCHEMA_VERSION:
        raise LutError(
            f"{path} has schema {version}, this hwprof reads schema {SCHEMA_VERSION}; upgrade hwprof"
        )
    if metadata.get("file_kind") != kind:
        raise LutError(
            f"{path} holds {metadata.get('file_kind')!r}, not a {kind}; "
            "a table is NAME.parquet, its visits are NAME.visits.parquet"
        )
    _check_schema(path, file.schema_arrow, columns)
    if kind == "table":
        # Tables of schema 1 that were written before there was any validation.
        metadata.setdefault("validation", None)
    if missing := [key for key in keys if key not in metadata]:
        raise LutError(
            f"{path} lacks the metadata {', '.join(PREFIX + key for key in missing)}; {DAMAGED}"
        )
    if kind == "table" and not isinstance(metadata["environments"], dict):
        raise LutError(f"{path}: metadata {PREFIX}environments is no JSON object; {DAMAGED}")
    return StoredTable(path, metadata, file.metadata.num_rows, file)


def _open_parquet(path: Path, columns: tuple[Column, ...]) -> pq.ParquetFile:
    if path.is_dir():
        raise LutError(f"{path} is a folder; name the .parquet file in it")
    try:
        with path.open("rb") as raw:
            magic = raw.read(len(MAGIC))
    except FileNotFoundError:
        raise LutError(
            f"{path} does not exist; check the name, or build it: "
            f"hwprof build-lut --backend onnxruntime --space tiny --out {path}"
        ) from None
    except OSError as error:
        raise LutError(f"{path} cannot be read: {error.strerror}; check its permissions") from None
    if magic != MAGIC:
        what = "is empty" if not magic else "is no Parquet file"
        raise LutError(f"{path} {what}; give the .parquet file that `hwprof build-lut` wrote")
    try:
        source = pa.OSFile(str(path))
        there = set(pq.read_schema(source).names)
        return pq.ParquetFile(
            source,
            read_dictionary=[name for name in few_valued(columns) if name in there],
            page_checksum_verification=True,
        )
    except UNREADABLE as error:
        raise LutError(f"{path} is cut off or damaged ({_short(error)}); {DAMAGED}") from None


def _metadata(path: Path, file: pq.ParquetFile) -> dict[str, Any]:
    """The `hwprof.` keys of the file, without the prefix."""
    values = {}
    for raw_key, raw in (file.metadata.metadata or {}).items():
        if not raw_key.startswith(PREFIX.encode()):
            continue
        try:
            values[raw_key.decode().removeprefix(PREFIX)] = json.loads(raw)
        except ValueError:
            raise LutError(f"{path}: metadata {raw_key!r} is no JSON; {DAMAGED}") from None
    if not values:
        raise LutError(
            f"{path} is a Parquet file of another kind (it has no hwprof metadata); "
            "give one that `hwprof build-lut` wrote"
        )
    return values


def _check_schema(path: Path, schema: pa.Schema, columns: tuple[Column, ...]) -> None:
    names = [column.name for column in columns]
    if missing := [name for name in names if name not in schema.names]:
        raise LutError(f"{path} lacks the columns {', '.join(missing)} of schema 1; {DAMAGED}")
    if unknown := [name for name in schema.names if name not in names]:
        raise LutError(
            f"{path} has columns that schema 1 does not know: {', '.join(unknown)}; drop them"
        )
    for column in columns:
        found = schema.field(column.name).type
        if pa.types.is_dictionary(found):
            found = found.value_type
        if found != column.type:
            raise LutError(
                f"{path}: column {column.name} is {found}, schema 1 says {column.type}; {DAMAGED}"
            )


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
