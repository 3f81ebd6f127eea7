"""Content hash: what a table says, whatever its encoding, compression, chunks and row groups."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

CONTENT_VERSION = 1


def content_hash(table: pa.Table) -> str:
    """sha256 (hex) over column names, types, validity and values, in column and row order.

    A dictionary-encoded column hashes as the text it stands for; a value under a null counts as
    zero or empty text. `docs/table.md` spells out the bytes, so that others can recompute them.
    """
    digest = hashlib.sha256(f"hwprof-content-v{CONTENT_VERSION}:{table.num_rows}\n".encode())
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        digest.update(f"{name}:{column.type}:{column.null_count}\n".encode())
        _hash_column(digest, column)
    return digest.hexdigest()


def _hash_column(digest: Any, column: pa.ChunkedArray) -> None:
    """Validity (one byte a row, only if there are nulls), then lengths of texts, then values."""
    if column.null_count:
        for chunk in column.chunks:
            digest.update(chunk.is_valid().to_numpy(zero_copy_only=False).astype(np.uint8))
    if pa.types.is_string(column.type):
        filled = [chunk.fill_null("") for chunk in column.chunks]
        for chunk in filled:
            digest.update(pc.binary_length(chunk).to_numpy().astype("<i8"))
        for chunk in filled:
            digest.update(text_bytes(chunk))
        return
    for chunk in column.chunks:
        if pa.types.is_timestamp(column.type):
            chunk = chunk.cast(pa.int64())
        zero = False if pa.types.is_boolean(chunk.type) else 0
        values = chunk.fill_null(zero).to_numpy(zero_copy_only=False)
        digest.update(np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False)))


def text_bytes(chunk: pa.StringArray) -> memoryview:
    """UTF-8 bytes of all texts of an array without nulls, one after the other, without a copy."""
    _, offsets, data = chunk.buffers()
    if data is None or not len(chunk):
        return memoryview(b"")
    bounds = np.frombuffer(offsets, np.int32, len(chunk) + 1, offset=4 * chunk.offset)
    return memoryview(data)[bounds[0] : bounds[-1]]
