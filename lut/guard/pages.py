"""The pages of a column, walked by their headers before any is decoded: what they say they hold, and
that it is what the footer says. Arrow believes both.

Source: github.com/apache/parquet-format, src/main/thrift/parquet.thrift.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from hwprof.lut.guard.footer import BOOLEAN, BYTE_ARRAY, DOUBLE, FLOAT, INT32, INT64, WIDTHS, Chunk
from hwprof.lut.guard.limits import MAGIC
from hwprof.lut.guard.thrift import I32, STRUCT, Struct, read_struct

DATA_PAGE, DICTIONARY_PAGE, DATA_PAGE_V2 = 0, 2, 3
TYPE, UNCOMPRESSED_BYTES, COMPRESSED_BYTES = 1, 2, 3
DETAILS = {DATA_PAGE: 5, DICTIONARY_PAGE: 7, DATA_PAGE_V2: 8}
NUM_VALUES = 1
ENCODING = {DATA_PAGE: 2, DATA_PAGE_V2: 4}
PLAIN, PLAIN_DICTIONARY, RLE, DELTA_BINARY_PACKED, RLE_DICTIONARY, BYTE_STREAM_SPLIT = 0, 2, 3, 5, 8, 9
CODED = (PLAIN_DICTIONARY, RLE_DICTIONARY)
# Delta-encoded text is left out: a few bytes of it stand for any number of long values.
ENCODINGS = {
    BYTE_ARRAY: (PLAIN, *CODED),
    BOOLEAN: (PLAIN, RLE),
    **dict.fromkeys(
        (INT32, INT64, FLOAT, DOUBLE), (PLAIN, *CODED, DELTA_BINARY_PACKED, BYTE_STREAM_SPLIT)
    ),
}
TEXT_WIDTH = 4
"""In memory: where a text ends, or which of a dictionary it is."""
NARROWEST = 4
FIRST_READ, LONGEST_HEADER = 128, 1 << 16
# Writers end a page after 20,000 rows or 1 MiB.
FEWEST_PAGES, ROWS_PER_PAGE, BYTES_PER_PAGE = 16, 256, 1 << 16


@dataclass(frozen=True)
class Pages:
    """What the pages of a column in one row group will take: bytes in memory, as an upper bound (text
    in dictionaries counted once), and whether any is dictionary-encoded."""

    bytes: int
    coded: bool


def walk(source: pa.NativeFile, chunk: Chunk, rows: int, end: int) -> Pages:
    """Go through the headers of a column's pages in one row group, as Arrow will.

    Args:
        rows: of the row group.
        end: where the file's pages end.

    Raises:
        ValueError: they lie outside the file, hold another number of values than `rows`, or are of a
            kind or encoding that cannot be bounded.
    """
    at, stop = chunk.start, chunk.start + chunk.stored_bytes
    if not len(MAGIC) <= at <= stop <= end:
        raise ValueError("its pages lie outside the file")
    if chunk.num_values != rows:
        raise ValueError(f"{chunk.num_values} values in {rows} rows")
    encodings = ENCODINGS.get(chunk.kind, ())
    needed, coded = rows * WIDTHS.get(chunk.kind, TEXT_WIDTH), False
    seen = pages = 0
    while seen < rows:
        most_pages = FEWEST_PAGES + rows // ROWS_PER_PAGE + needed // BYTES_PER_PAGE
        if at >= stop or pages > most_pages:
            raise ValueError("its pages do not hold what the footer says")
        header, at = _header(source, at, stop)
        kind, size, compressed = (
            _number(header, field) for field in (TYPE, UNCOMPRESSED_BYTES, COMPRESSED_BYTES)
        )
        if kind not in DETAILS or size < 0 or not 0 <= compressed <= stop - at:
            raise ValueError("its pages are not where the footer says")
        details = header.get(DETAILS[kind])
        if details is None or details.type != STRUCT:
            raise ValueError("a page header lacks its details")
        values = _number(details.value, NUM_VALUES)
        if kind == DICTIONARY_PAGE:
            if not 0 <= values * NARROWEST <= size:
                raise ValueError(f"a dictionary of {values} values in {size} bytes")
        else:
            encoding = _number(details.value, ENCODING[kind])
            if encoding not in encodings:
                raise ValueError(f"encoding {encoding}, which is not read")
            if values <= 0:
                raise ValueError("a page without values")
            coded |= encoding in CODED
            seen += values
        at, needed, pages = at + compressed, needed + size, pages + 1
    if seen != rows:
        raise ValueError(f"{seen} values in {rows} rows")
    return Pages(needed, coded)


def _header(source: pa.NativeFile, at: int, stop: int) -> tuple[Struct, int]:
    """The page header that begins at a place, and where it ends."""
    size = FIRST_READ
    while True:
        data = source.read_at(min(size, stop - at), at)
        try:
            header, length = read_struct(data)
        except ValueError:
            if len(data) < size or size >= LONGEST_HEADER:
                raise
            size = LONGEST_HEADER
        else:
            return header, at + length


def _number(fields: Struct, name: int) -> int:
    field = fields.get(name)
    if field is None or field.type != I32:
        raise ValueError(f"a page header lacks field {name}")
    number: int = field.value
    return number
