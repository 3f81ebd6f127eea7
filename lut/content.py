"""Content hash: what a table says, whatever its encoding, compression, chunks and row groups."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

CONTENT_VERSION = 2
THREADS, WORTH_THREADS = 2, 1 << 14


class ContentDigest:
    """The content hash of a table that is handed over piece by piece, in the order of its rows."""

    def __init__(self, schema: pa.Schema) -> None:
        self._columns = {field.name: _ColumnDigest(_plain_type(field.type)) for field in schema}
        self._rows = 0

    def update(self, table: pa.Table) -> None:
        """Add rows; the columns are those of the schema."""
        self._rows += table.num_rows
        if table.num_rows < WORTH_THREADS:
            for name, column in self._columns.items():
                column.update(table.column(name))
            return
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda name: self._columns[name].update(table.column(name)), self._columns))

    def hexdigest(self) -> str:
        """sha256 (hex) of all rows so far."""
        lines = [f"hwprof-content-v{CONTENT_VERSION}:{self._rows}\n"]
        lines += [f"{name}:{column.line()}\n" for name, column in self._columns.items()]
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def content_hash(table: pa.Table) -> str:
    """sha256 (hex) over column names, types, validity and values, in column and row order.

    A dictionary-encoded column hashes as the text it stands for; a value under a null counts as
    zero or empty text. `docs/format.md` spells out the bytes, so that others can recompute them.
    """
    digest = ContentDigest(table.schema)
    digest.update(table)
    return digest.hexdigest()


class _ColumnDigest:
    """Of one column: a hash of which rows have a value, of the texts' lengths, and of the values."""

    def __init__(self, kind: pa.DataType) -> None:
        self._kind = kind
        self._nulls = 0
        self._valid, self._lengths, self._values = (hashlib.sha256() for _ in range(3))

    def update(self, column: pa.ChunkedArray) -> None:
        for chunk in column.chunks:
            self._nulls += chunk.null_count
            self._valid.update(_validity(chunk))
            if pa.types.is_string(self._kind):
                self._add_texts(chunk)
            else:
                self._values.update(_numbers(chunk))

    def line(self) -> str:
        parts = [digest.hexdigest() for digest in (self._valid, self._lengths, self._values)]
        return f"{self._kind}:{self._nulls}:{':'.join(parts)}"

    def _add_texts(self, chunk: pa.Array) -> None:
        if pa.types.is_dictionary(chunk.type):
            chunk = chunk.cast(self._kind)
        filled = chunk.fill_null("") if chunk.null_count else chunk
        self._lengths.update(pc.binary_length(filled).to_numpy().astype("<i4", copy=False))
        self._values.update(text_bytes(filled))


def _validity(chunk: pa.Array) -> Any:
    if not chunk.null_count:
        return np.ones(len(chunk), np.uint8)
    return chunk.is_valid().to_numpy(zero_copy_only=False).astype(np.uint8)


def _numbers(chunk: pa.Array) -> Any:
    if pa.types.is_timestamp(chunk.type):
        chunk = chunk.cast(pa.int64())
    if chunk.null_count:
        chunk = chunk.fill_null(False if pa.types.is_boolean(chunk.type) else 0)
    values = chunk.to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def text_bytes(chunk: pa.StringArray) -> memoryview:
    """UTF-8 bytes of all texts of an array without nulls, one after the other, without a copy."""
    _, offsets, data = chunk.buffers()
    if data is None or not len(chunk):
        return memoryview(b"")
    bounds = np.frombuffer(offsets, np.int32, len(chunk) + 1, offset=4 * chunk.offset)
    return memoryview(data)[bounds[0] : bounds[-1]]
