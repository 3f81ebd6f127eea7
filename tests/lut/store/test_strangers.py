"""A store of a stranger, or at a place with a password: one line, no secret, no endless memory."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from datetime import UTC, datetime

import deltalake
import pyarrow as pa
import pytest

from hwprof.errors import LutError
from hwprof.lut import load_lut
from hwprof.lut.store import Store, list_store, push_to_store, store_to_cache
from hwprof.lut.store import delta as deltas
from hwprof.lut.store.batches import read_within

pytestmark = pytest.mark.usefixtures("home")
SECRET = "delta+s3://AKIA:TOPSECRET@bucket/store?key=TOPSECRET"


def stranger(folder, part, table):
    """Append to a table of a store past hwprof."""
    deltalake.write_deltalake(
        f"{folder.removeprefix('delta+')}/{part}", table, mode="append", schema_mode="merge"
    )


def test_a_source_that_is_not_described_was_once_a_bare_key_error_in_the_list(folder, make):
    store = Store(folder)
    store.append([make.row(make.ops[0])], make.metadata, writer="w", sequence=0)
    rows = store.rows.query("SELECT * FROM delta")
    place = rows.column_names.index("source_id")
    stranger(folder, "rows", rows.set_column(place, "source_id", pa.array(["\x1b[2J" + "x" * 999])))
    for call in (list_store, store_to_cache):
        with pytest.raises(LutError, match=r"has rows of source \\x1b\[2Jx+\.\.\., which it does not"):
            call(folder)


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "x", "spaces": [], "environments": {}, "table": 1}',
        '{"name": "x", "spaces": [], "environments": {}, "table": {"content_hash": "x"}}',
        '{"name": "x", "spaces": [], "environments": {}, "table": {"content_hash": "x",'
        ' "created_at": "x", "hwprof_version": "1"}}',
    ],
)
def test_a_source_whose_table_is_none_is_one_line(folder, make, text):
    store = Store(folder)
    store.append([make.row(make.ops[0])], make.metadata, writer="w", sequence=0)
    row = {"source_id": "x", "source": text, "pushed_at": datetime(2026, 11, 21, tzinfo=UTC)}
    stranger(folder, "sources", pa.Table.from_pylist([row], schema=store.sources.schema))
    with pytest.raises(LutError, match="is damaged: a source in it is wrong"):
        list_store(folder)


def test_the_password_of_a_stores_url_was_once_printed(lut, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    store = Store(SECRET)
    told = [
        str(store.rows._failure("be read", OSError("no s3://AKIA:TOPSECRET@bucket/x?key=TOPSECRET"))),
    ]
    monkeypatch.setattr(deltas.Delta, "exists", lambda self: False)
    for call in (list_store, store_to_cache):
        with pytest.raises(LutError, match="holds no store") as caught:
            call(SECRET)
        told.append(str(caught.value))
    monkeypatch.setenv("HWPROF_OFFLINE", "1")
    for call in (lambda: push_to_store(str(lut.path), SECRET), lambda: list_store(SECRET)):
        with pytest.raises(LutError, match="HWPROF_OFFLINE is set") as caught:
            call()
        told.append(str(caught.value))
    assert all("s3://bucket/" in line for line in told)
    assert "TOPSECRET" not in " ".join([*told, caplog.text])


PULL = """
import sys
from hwprof.errors import LutError
from hwprof.lut.store import store_to_cache
try:
    store_to_cache(sys.argv[1])
except LutError as error:
    print(error)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) >> 10)
"""


def test_a_store_of_100_kb_with_equal_rows_once_took_761_mib(folder, make):
    store = Store(folder)
    store.append([make.row(make.ops[0])], make.metadata, writer="w", sequence=0)
    rows = store.rows.query("SELECT * FROM delta")
    stranger(folder, "rows", rows.take([0] * 300_000))
    done = subprocess.run(
        [sys.executable, "-c", PULL, folder],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HWPROF_MAX_READ_GIB": ""},
    )
    said, peak_mib = done.stdout.splitlines()
    assert "512 MiB are allowed for files of its size; if you trust it: HWPROF_MAX_READ_GIB=" in said
    assert int(peak_mib) < 512


def test_who_trusts_a_store_reads_more_of_it(folder, lut, monkeypatch):
    push_to_store(str(lut.path), folder)
    monkeypatch.setenv("HWPROF_MAX_READ_GIB", "0.000001")
    with pytest.raises(LutError, match=r"would take 0 MiB to read.* trust it: HWPROF_MAX_READ_GIB=1$"):
        store_to_cache(folder)
    monkeypatch.setenv("HWPROF_MAX_READ_GIB", "1")
    assert load_lut(store_to_cache(folder)).table.equals(lut.table)


def test_texts_are_counted_as_long_as_they_are_once_plain():
    """A view of a text that is there a million times takes 16 bytes each."""
    views = pa.array(["long " * 20, None, "short"], pa.string_view())
    coded = pa.DictionaryArray.from_arrays(pa.array([0, None, 0], pa.int32()), pa.array(["long " * 20]))
    batch = pa.record_batch({"a": views, "b": coded, "c": pa.array([1, 2, 3])})
    source = pa.RecordBatchReader.from_batches(batch.schema, [batch.slice(1), batch])
    found = read_within(source, 0, None, "here")
    assert found.to_pylist() == [*batch.to_pylist()[1:], *batch.to_pylist()]
    assert [field.type for field in found.schema] == [pa.string(), pa.string(), pa.int64()]


def test_a_batch_whose_texts_are_beyond_32_bits_is_cut(monkeypatch):
    from hwprof.lut.store import batches

    monkeypatch.setattr(batches, "MOST_TEXT_BYTES", 100)
    batch = pa.record_batch({"a": pa.array(["x" * number for number in range(40)], pa.string_view())})
    found = read_within(pa.RecordBatchReader.from_batches(batch.schema, [batch]), 0, None, "here")
    assert found.column("a").num_chunks > 10
    assert found.to_pylist() == batch.to_pylist()
