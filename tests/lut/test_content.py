"""The content hash: depends on what a table says and on nothing else."""

from __future__ import annotations

import hashlib
import io
import struct
from datetime import timedelta
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof.errors import LutError
from hwprof.lut import COLUMNS, content_hash, load_lut, rows_to_table, verify_lut
from hwprof.lut.schema import few_valued


@pytest.fixture(scope="module")
def table(make):
    rows = [make.row(op, float(i)) for i, op in enumerate(make.ops, start=1)]
    rows[2] = make.row(make.ops[2], None)
    return rows_to_table(rows)


@given(
    group=st.integers(1, 7),
    compression=st.sampled_from(["none", "snappy", "zstd", "gzip"]),
    dictionary=st.booleans(),
    version=st.sampled_from(["1.0", "2.4", "2.6"]),
    data_page_version=st.sampled_from(["1.0", "2.0"]),
)
def test_the_hash_survives_any_encoding(
    table, group, compression, dictionary, version, data_page_version
):
    file = io.BytesIO()
    pq.write_table(
        table, file, row_group_size=group, compression=compression, use_dictionary=dictionary,
        data_page_version=data_page_version, store_schema=version == "1.0",
    )  # fmt: skip
    plain = pq.read_table(io.BytesIO(file.getvalue()))
    coded = pq.read_table(io.BytesIO(file.getvalue()), read_dictionary=few_valued(COLUMNS))
    assert content_hash(plain) == content_hash(coded) == content_hash(table)


@given(cuts=st.lists(st.integers(0, 6), max_size=4))
def test_the_hash_survives_any_chunking(table, cuts):
    bounds = [0, *sorted(cuts), table.num_rows]
    pieces = [table.slice(a, b - a) for a, b in pairwise(bounds)]
    assert content_hash(pa.concat_tables(pieces)) == content_hash(table)


@pytest.mark.parametrize("column", [column.name for column in COLUMNS])
@pytest.mark.parametrize("row", [0, 2, 5])
def test_the_hash_changes_with_any_value(table, column, row):
    changed = table.column(column).to_pylist()
    old = changed[row]
    match old:
        case None:
            arrow_type = table.schema.field(column).type
            changed[row] = "" if pa.types.is_string(arrow_type) else 0
        case bool():
            changed[row] = not old
        case str():
            changed[row] = old + "x"
        case int() | float():
            changed[row] = old + 1
        case _:
            changed[row] = old + timedelta(milliseconds=1)
    place = table.column_names.index(column)
    array = pa.array(changed, table.schema.field(column).type)
    assert content_hash(table.set_column(place, column, array)) != content_hash(table)
    if old is not None:
        changed[row] = None
        array = pa.array(changed, table.schema.field(column).type)
        assert content_hash(table.set_column(place, column, array)) != content_hash(table)


def test_text_that_moves_across_a_row_border_changes_the_hash():
    assert content_hash(pa.table({"a": ["ab", "c"]})) != content_hash(pa.table({"a": ["a", "bc"]}))


def test_names_types_and_row_order_count():
    base = content_hash(pa.table({"a": [1, 2]}))
    assert content_hash(pa.table({"b": [1, 2]})) != base
    assert content_hash(pa.table({"a": [2, 1]})) != base
    assert content_hash(pa.table({"a": pa.array([1, 2], pa.int32())})) != base


def test_the_value_under_a_null_does_not_count():
    hidden = pa.Array.from_buffers(
        pa.int32(), 2, [pa.py_buffer(b"\x01"), pa.py_buffer(b"\x05\0\0\0\x07\0\0\0")], null_count=1
    )
    assert content_hash(pa.table({"a": hidden})) == content_hash(
        pa.table({"a": pa.array([5, None], pa.int32())})
    )


def test_the_hash_is_of_the_bytes_that_the_documentation_names():
    """A change here would orphan every hash published so far: it needs a new CONTENT_VERSION."""
    known = pa.table({
        "text": ["a", None, "ü"], "number": [1.5, None, -2.0], "flag": [True, None, False],
        "time": pa.array([0, 1, None]).cast(pa.timestamp("ms", tz="UTC")),
        "full": pa.array([7, 8, 9], "int32"),
    })  # fmt: skip

    def line(head: str, valid: bytes, lengths: bytes, values: bytes) -> str:
        return ":".join([head, *(hashlib.sha256(part).hexdigest() for part in (valid, lengths, values))])

    documented = [
        "hwprof-content-v2:3",
        line("text:string:1", b"\x01\x00\x01", struct.pack("<3i", 1, 0, 2), "aü".encode()),
        line("number:double:1", b"\x01\x00\x01", b"", struct.pack("<3d", 1.5, 0.0, -2.0)),
        line("flag:bool:1", b"\x01\x00\x01", b"", b"\x01\x00\x00"),
        line("time:timestamp[ms, tz=UTC]:1", b"\x01\x01\x00", b"", struct.pack("<3q", 0, 1, 0)),
        line("full:int32:0", b"\x01\x01\x01", b"", struct.pack("<3i", 7, 8, 9)),
    ]
    text = "".join(f"{each}\n" for each in documented)
    assert content_hash(known) == hashlib.sha256(text.encode()).hexdigest()


def test_a_table_that_was_written_and_not_touched_verifies(lut):
    verify_lut(lut.path)


def test_a_value_changed_behind_our_back_does_not_verify(lut):
    stored = pq.read_table(lut.path)
    file_metadata = pq.read_metadata(lut.path).metadata
    place = stored.column_names.index("latency_ms")
    faster = pa.array([0.5 * value.as_py() for value in stored.column("latency_ms")])
    forged = stored.set_column(place, "latency_ms", faster)
    with pq.ParquetWriter(lut.path, forged.schema) as writer:
        writer.write_table(forged)
        writer.add_key_value_metadata(
            {k: v for k, v in file_metadata.items() if k.startswith(b"hwprof.")}
        )
    assert load_lut(lut.path).metadata["content_hash"] == lut.metadata["content_hash"]
    with pytest.raises(LutError, match="changed after it was written"):
        verify_lut(lut.path)
