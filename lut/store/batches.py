"""What a query over a store gives, read batch by batch within a bound: nobody vouches for a store."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hwprof.errors import LutError
from hwprof.lut.guard.limits import LIMIT, allowed_bytes

# Offsets of plain texts have 32 bits; Arrow casts what is beyond that to nonsense, without an error.
MOST_TEXT_BYTES = (1 << 31) - 1
OFFSET_BYTES = 4
# What is made of rows is in memory beside them: 604 MiB of rows took 2.0 GiB, 123 MiB of visits 1.0 GiB.
COPIES = 4


def read_within(
    batches: pa.RecordBatchReader, stored_bytes: int, stored_rows: int | None, shown: str
) -> pa.Table:
    """All rows, with plain texts in place of the views and dictionaries that Delta's reader gives.

    Args:
        stored_bytes: size of the files that they come from; as much memory is allowed as for a file
            of that size, for the rows and what is made of them.
        stored_rows: rows of those files, where the log tells; foretells what all would take.
        shown: the store, for messages.

    Raises:
        LutError: they take more memory than they may; reading has stopped there.
    """
    allowed = allowed_bytes(stored_bytes)
    schema = pa.schema([field.with_type(_plain_type(field.type)) for field in batches.schema])
    found: deque[pa.RecordBatch] = deque()
    taken = rows = 0
    # Views of a text that is there a million times are small: they are turned once all are counted.
    for batch in batches:
        rows += batch.num_rows
        taken += COPIES * sum(map(_plain_bytes, batch.columns))
        if taken > allowed:
            needed = max(taken, taken * (stored_rows or 0) // max(rows, 1))
            gib = max(1, -(-needed >> 30))
            raise LutError(
                f"store {shown} would take {needed / 2**20:,.0f} MiB to read, "
                f"{allowed / 2**20:,.0f} MiB are allowed for files of its size; "
                f"if you trust it: {LIMIT}={gib}"
            )
        found.append(batch)
    plain: list[pa.RecordBatch] = []
    while found:
        plain += _plain(found.popleft(), schema)
    return pa.Table.from_batches(plain, schema)


def _plain(batch: pa.RecordBatch, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    if max(map(_plain_bytes, batch.columns), default=0) > MOST_TEXT_BYTES and batch.num_rows > 1:
        half = batch.num_rows // 2
        yield from _plain(batch.slice(0, half), schema)
        yield from _plain(batch.slice(half), schema)
        return
    columns = [_plain_column(column) for column in batch.columns]
    yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_dictionary(kind) or pa.types.is_string_view(kind) else kind


def _plain_column(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        texts = column.dictionary.cast(pa.string())
        column = pa.DictionaryArray.from_arrays(column.indices, texts)
    return column.cast(_plain_type(column.type))


def _plain_bytes(column: pa.Array) -> int:
    """What a column takes once its texts are plain."""
    if pa.types.is_dictionary(column.type):
        lengths = _lengths(column.dictionary.cast(pa.string_view()))
        lengths = lengths[column.indices.drop_null().to_numpy(zero_copy_only=False)]
    elif pa.types.is_string_view(column.type):
        lengths = _lengths(column)
    else:
        return int(column.nbytes)
    return int(lengths.sum()) + OFFSET_BYTES * len(column)


def _lengths(texts: pa.Array) -> NDArray[np.int64]:
    """Bytes of each text. Arrow cannot say so of views: they are the first 4 bytes of its 16."""
    if not len(texts):
        return np.empty(0, np.int64)
    views = np.frombuffer(texts.buffers()[1], np.int32, 4 * len(texts), offset=16 * texts.offset)
    known = texts.is_valid().to_numpy(zero_copy_only=False)
    return np.where(known, views.reshape(-1, 4)[:, 0], 0).astype(np.int64)
