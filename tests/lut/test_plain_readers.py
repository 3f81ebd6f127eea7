"""A table without hwprof: plain pandas, plain DuckDB, and the documentation they go by."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from hwprof.lut import COLUMNS, METADATA, VISIT_COLUMNS, Column, visits_path_of
from hwprof.lut.schema import ORDER, VISITS_ORDER

DOCS = Path(__file__).parents[2] / "docs"
FORMAT = DOCS / "format.md"
BLOCKS = [
    block.split("```")[0]
    for page in ("table.md", "format.md")
    for block in (DOCS / page).read_text().split("```python\n")[1:]
]
# What Spark's vectorised reader knows; it has neither BYTE_STREAM_SPLIT nor DELTA_LENGTH_BYTE_ARRAY.
ENCODINGS = {"PLAIN", "RLE", "RLE_DICTIONARY", "PLAIN_DICTIONARY"}


def test_pandas_reads_the_file_as_to_pandas_shows_it(lut):
    plain = pd.read_parquet(lut.path)
    pd.testing.assert_frame_equal(plain, lut.to_pandas())
    assert set(plain.loc[plain.kind == "mbconv", "latency_ms"]) == {2.0, 3.0}


def test_pandas_reads_the_visits(lut):
    visits = pd.read_parquet(visits_path_of(lut.path))
    joined = pd.read_parquet(lut.path).merge(
        visits, on=["op_id", "environment_id", "granularity", "cache"], suffixes=("", "_visit")
    )
    assert len(joined) == 18
    assert (joined["p10_ms_visit"] == joined["latency_ms"]).all()


def test_duckdb_reads_the_file(lut):
    sql = f"select kind, count(*), avg(latency_ms) from '{lut.path}' where visits > 9 group by kind"
    assert sorted(duckdb.sql(sql).fetchall())[:2] == [("conv", 1, 1.0), ("fc", 1, 6.0)]


def test_duckdb_reads_the_metadata(lut, make):
    sql = f"select decode(key), decode(value) from parquet_kv_metadata('{lut.path}')"
    found = {key: json.loads(value) for key, value in duckdb.sql(sql).fetchall()}
    assert found["hwprof.environments"] == make.metadata["environments"]
    assert found.keys() >= {f"hwprof.{key}" for key in METADATA}


def test_no_hwprof_code_is_needed(lut):
    code = (
        "import sys, pandas as pd; frame = pd.read_parquet(sys.argv[1]); "
        "assert 'hwprof' not in sys.modules; print(frame.latency_ms.sum())"
    )
    command = [sys.executable, "-I", "-c", code, str(lut.path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "21.0"


def documented(column: Column) -> str:
    unit, null_when = column.unit or "-", column.null_when or "never"
    return f"| `{column.name}` | {column.type} | {unit} | {column.meaning} | {null_when} |"


@pytest.mark.parametrize(
    ("heading", "columns"),
    [("## Columns", COLUMNS), ("## Visits", VISIT_COLUMNS)],
    ids=["table", "visits"],
)
def test_every_column_is_documented_in_order_with_type_unit_meaning_and_nulls(heading, columns):
    section = FORMAT.read_text().split(f"{heading}\n")[1].split("\n## ")[0]
    told = [line for line in section.splitlines() if line.startswith("| `")]
    assert told == [documented(column) for column in columns]


def test_every_metadata_key_is_documented():
    section = FORMAT.read_text().split("## File metadata\n")[1].split("\n## ")[0]
    told = [line for line in section.splitlines() if line.startswith("| `")]
    assert told == [f"| `hwprof.{key}` | {meaning} |" for key, meaning in METADATA.items()]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.strip().splitlines()[0])
def test_the_documented_python_runs(lut, monkeypatch, block):
    for name in ("polars", "pyspark"):
        if name in block:
            pytest.importorskip(name)
    monkeypatch.chdir(lut.path.parent)
    exec(compile(block, "documentation", "exec"), {})


def test_the_documented_content_hash_is_the_stored_one(lut, monkeypatch):
    monkeypatch.chdir(lut.path.parent)
    (block,) = [block for block in BLOCKS if "content_hash =" in block]
    found: dict[str, str] = {}
    exec(compile(block, str(FORMAT), "exec"), found)
    assert found["content_hash"] == lut.metadata["content_hash"]


def test_files_are_in_the_promised_order_and_in_encodings_that_every_reader_has(lut):
    for path, order in ((lut.path, ORDER), (visits_path_of(lut.path), VISITS_ORDER)):
        metadata = pq.read_metadata(path)
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            told = [metadata.schema.column(c.column_index).path for c in group.sorting_columns]
            assert told == list(order)
            for place in range(metadata.num_columns):
                assert set(group.column(place).encodings) <= ENCODINGS
                assert group.column(place).compression == "ZSTD"
        rows = pq.read_table(path).select(order).to_pylist()
        assert rows == sorted(rows, key=lambda row: tuple(row.values()))
