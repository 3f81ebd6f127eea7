"""A store of a stranger, or at a place with a password: one line, no secret, no endless memory."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

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


def log_of(folder, version):
    """The file of a version in the log of a store's rows."""
    return Path(folder.removeprefix("delta+")) / "rows" / "_delta_log" / f"{version:020}.json"


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ({"timestamp": 1000, "operation": "WRITE\x1b[31mRED\x07"}, r"1970-01-01T00:00:01  write\x1b[31"),
        ({"timestamp": 1000, "operation": "x" * 999}, f"{'x' * 40}...\n"),
        ({"timestamp": 9 * 10**15, "operation": "write"}, "-                    write"),
        ({"operation": "write"}, "-                    write"),
        ({"timestamp": 1000}, "1970-01-01T00:00:01\n"),
        ({"timestamp": 1000, "operation": None}, "1970-01-01T00:00:01\n"),
    ],
)
def test_what_a_log_tells_of_a_commit_once_reached_the_terminal_or_ended_the_list(
    folder, make, run, told, shown
):
    Store(folder).append([make.row(make.ops[0])], make.metadata, writer="w", sequence=0)
    log_of(folder, 2).write_text(json.dumps({"commitInfo": told}) + "\n")
    text = run("list", folder).stdout
    assert shown in text
    assert text.replace("\n", "").isprintable()
    json.loads(run("list", folder, "--json").stdout)


def test_a_log_whose_history_cannot_be_read_is_one_line(folder, make, monkeypatch):
    Store(folder).append([make.row(make.ops[0])], make.metadata, writer="w", sequence=0)

    def history(*_):
        raise deltalake.exceptions.DeltaError("no\nhistory")

    monkeypatch.setattr(deltalake.DeltaTable, "history", history)
    with pytest.raises(LutError, match=r"^store .* cannot be read: no history; check the name"):
        list_store(folder)


def rewrite(folder, part, name, values):
    """Write a part of a store anew, past hwprof, with other values in one column."""
    stored = getattr(Store(folder), part).query("SELECT * FROM delta")
    column = values(stored.num_rows)
    field = pa.field(name, column.type)
    stored = stored.set_column(stored.column_names.index(name), field, column)
    replace(folder, part, stored)


def replace(folder, part, table):
    place = Path(folder.removeprefix("delta+")) / part
    shutil.rmtree(place)
    settings = {"hwprof.store": "1"}
    deltalake.DeltaTable.create(
        place, table.schema, configuration=settings, raise_if_key_not_exists=False
    )
    deltalake.write_deltalake(place, table, mode="append")


@pytest.mark.parametrize(
    ("part", "name", "value", "kind"),
    [
        ("rows", "pushed_at", "x", "string"),
        ("rows", "batch_id", 1, "int64"),
        ("rows", "origin", 1, "int64"),
        ("visits", "op_id", 1, "int64"),
        ("visits", "batch_id", 1, "int64"),
        ("visits", "cache", ["x"], "list<element: string>"),
        ("sources", "source", 1, "int64"),
    ],
)
def test_columns_of_another_type_once_ended_a_pull(folder, lut, part, name, value, kind):
    push_to_store(str(lut.path), folder)
    rewrite(folder, part, name, lambda rows: pa.array([value] * rows))
    with pytest.raises(LutError) as caught:
        store_to_cache(folder)
    said = f"/{part} has the column {name} as {kind}, it must be "
    assert said in str(caught.value)


def test_a_column_that_is_not_there_is_told(folder, lut):
    push_to_store(str(lut.path), folder)
    replace(folder, "visits", Store(folder).visits.query("SELECT * FROM delta").drop_columns("calls"))
    with pytest.raises(LutError, match="visits has no column calls; another tool changed it"):
        store_to_cache(folder)


@pytest.mark.parametrize("name", ["op_id", "cache", "batch_id", "pushed_at"])
def test_rows_without_a_key_once_ended_a_pull(folder, lut, run, name):
    push_to_store(str(lut.path), folder)
    kind = Store(folder).rows.schema.field(name).type
    rewrite(folder, "rows", name, lambda rows: pa.nulls(rows, kind))
    with pytest.raises(LutError, match=f"has rows without {name}; another tool wrote them"):
        store_to_cache(folder)
    assert f"{len(lut)} rows in 1 files" in run("list", folder).stdout


@pytest.mark.parametrize("name", ["pushed_at", "started_at"])
def test_rows_of_a_year_beyond_the_calendar_once_ended_a_pull(folder, lut, run, name):
    push_to_store(str(lut.path), folder)
    kind = Store(folder).rows.schema.field(name).type
    rewrite(folder, "rows", name, lambda rows: pa.array([1 << 62] * rows, pa.int64()).cast(kind))
    with pytest.raises(LutError, match=f"has rows with {name} before year 1 or after 9999"):
        store_to_cache(folder)
    assert f"{len(lut)} rows in 1 files" in run("list", folder).stdout


def test_a_conflict_of_rows_with_a_strangers_label_is_told_visibly(folder, make):
    store = Store(folder)
    for number in range(2):
        row = make.row(make.ops[0], 1.0 + number, label="\x1b[2J")
        store.append([row], make.metadata, writer="w", sequence=number)
    with pytest.raises(LutError, match=r"differ between the tables: \\x1b\[2J \(w/0, w/1\)"):
        store_to_cache(folder, on_conflict="refuse")


@pytest.mark.parametrize(
    "path",
    ["%2e%2e/%2e%2e/mine/rows/FILE", "%252e%252e/mine/rows/FILE", "file%3A//PLACE", "%2FPLACE",
     "..\\mine\\FILE"],
)  # fmt: skip
def test_an_encoded_path_in_a_log_once_read_another_stores_rows(folder, make, tmp_path, path):
    mine = Store(str(tmp_path / "mine"))
    for store in (mine, Store(folder)):
        store.append([make.row(make.ops[0])], make.metadata, writer="w", sequence=0)
    (secret,) = (tmp_path / "mine" / "rows").glob("*.parquet")
    log, lines = log_of(folder, 1), []
    for line in log.read_text().splitlines():
        action = json.loads(line)
        if "add" in action:
            action["add"]["path"] = path.replace("FILE", secret.name).replace("PLACE", str(secret))
            action["add"]["size"] = secret.stat().st_size
        lines.append(json.dumps(action))
    log.write_text("\n".join(lines) + "\n")
    for call in (store_to_cache, list_store, lambda place: Store(place).compact()):
        with pytest.raises(LutError, match=r"names the file .*, which is not in its folder"):
            call(folder)
