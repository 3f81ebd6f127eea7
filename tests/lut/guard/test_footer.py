"""The footer as hwprof reads it: the same as Arrow does."""

from __future__ import annotations

from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.lut.guard.footer import check_flat, read_footer

KINDS = {"BOOLEAN": 0, "INT32": 1, "INT64": 2, "FLOAT": 4, "DOUBLE": 5, "BYTE_ARRAY": 6}
ENCODINGS = {"PLAIN": 0, "PLAIN_DICTIONARY": 2, "RLE": 3, "DELTA_BINARY_PACKED": 5, "RLE_DICTIONARY": 8,
             "BYTE_STREAM_SPLIT": 9}  # fmt: skip


def footer_of(data):
    return data[-8 - int.from_bytes(data[-8:-4], "little") : -8]


def as_arrow_reads_it(metadata):
    groups = []
    for group in (metadata.row_group(number) for number in range(metadata.num_row_groups)):
        chunks = []
        for chunk in (group.column(place) for place in range(group.num_columns)):
            dictionary = chunk.dictionary_page_offset if chunk.has_dictionary_page else 0
            start = dictionary or chunk.data_page_offset
            encodings = tuple(ENCODINGS[name] for name in chunk.encodings)
            chunks.append((KINDS[chunk.physical_type], encodings, chunk.num_values, start,
                           chunk.total_compressed_size))  # fmt: skip
        groups.append((group.num_rows, chunks))
    return groups


def as_we_read_it(found):
    return [
        (group.num_rows, [told(found.chunk(number, place)) for place in range(len(group.places))])
        for number, group in enumerate(found.groups)
    ]


def told(chunk):
    return chunk.kind, chunk.encodings, chunk.num_values, chunk.start, chunk.stored_bytes


columns = {
    "flag": st.booleans(), "small": st.integers(-(1 << 31), (1 << 31) - 1),
    "single": st.floats(width=32), "large": st.integers(-(1 << 63), (1 << 63) - 1),
    "double": st.floats(), "text": st.text(max_size=90),
}  # fmt: skip
TYPES = {"flag": pa.bool_(), "small": pa.int32(), "large": pa.int64(), "single": pa.float32(),
         "double": pa.float64(), "text": pa.string()}  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_footer_says_what_arrow_reads_in_it(data):
    rows = data.draw(st.integers(1, 5))
    values = {
        name: data.draw(st.lists(st.none() | drawn, min_size=rows, max_size=rows))
        for name, drawn in columns.items()
    }
    table = pa.table({name: pa.array(found, TYPES[name]) for name, found in values.items()})
    file = BytesIO()
    pq.write_table(
        table, file, store_schema=False, row_group_size=data.draw(st.integers(1, 5)),
        use_dictionary=data.draw(st.booleans()), write_statistics=data.draw(st.booleans()),
        compression=data.draw(st.sampled_from(["none", "zstd"])),
        data_page_version=data.draw(st.sampled_from(["1.0", "2.0"])),
        write_page_index=data.draw(st.booleans()),
    )  # fmt: skip
    raw = footer_of(file.getvalue())
    found = read_footer(raw)
    check_flat(found)
    assert found.num_rows == rows
    assert as_we_read_it(found) == as_arrow_reads_it(pq.read_metadata(file))


def test_a_chunk_of_another_name_is_refused():
    """Arrow reads by place; asked for this name, pyarrow raised UnicodeDecodeError."""
    file = BytesIO()
    pq.write_table(pa.table({"latency_ms": [1.0]}), file, store_schema=False)
    raw = footer_of(file.getvalue())
    assert raw.count(b"latency_ms") == 2  # in the schema, and in the only chunk
    first = raw.index(b"latency_ms")
    place = raw.index(b"latency_ms", first + 1)
    changed = read_footer(raw[:place] + b"latency\x94ms" + raw[place + 10 :])
    with pytest.raises(ValueError, match="column 0 has one name here and another there"):
        changed.chunk(0, 0)
