"""Every schema version that was ever written is read, with what it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from hwprof.errors import LutError
from hwprof.lut import COLUMNS, SCHEMA_VERSION, VISIT_COLUMNS, load_lut, verify_lut, write_lut
from hwprof.lut.merging import merge
from hwprof.lut.versions import VERSIONS

FILES = Path(__file__).parent / "schemas"
CONTENT = json.loads((FILES / "content.json").read_text())
TABLES = ["1-early.parquet", "1.parquet"]


def told(rows, columns):
    """Rows in one order, as JSON has them, numbers as they are stored."""
    kinds = {column.name: column.type.to_pandas_dtype() for column in columns}

    def value(name, found):
        if isinstance(found, float):
            return kinds[name](found)
        return found if found is None or isinstance(found, str | int) else found.isoformat()

    made = [{name: value(name, found) for name, found in row.items()} for row in rows]
    return sorted(made, key=lambda row: str((row["op_id"], row["cache"], row.get("process"))))


def nearly(rows):
    """All but the last digit of single precision, in which the end of an interval is rounded outward."""
    return [
        {k: float(f"{v:.6g}") if isinstance(v, float | np.floating) else v for k, v in row.items()}
        for row in rows
    ]


@pytest.mark.parametrize("name", TABLES)
def test_rows_visits_and_metadata_are_those_that_were_written(name):
    lut = load_lut(FILES / name)
    assert nearly(told(lut.table.to_pylist(), COLUMNS)) == nearly(told(CONTENT["rows"], COLUMNS))
    visits = told(lut.visits.to_pylist(), VISIT_COLUMNS)
    assert visits == told(CONTENT["visits"], VISIT_COLUMNS)
    for key, value in CONTENT["metadata"].items():
        assert lut.metadata[key] == value
    assert lut.metadata["merged"] is None
    assert lut.table.schema.names == [column.name for column in COLUMNS]
    for column in COLUMNS:
        found = lut.table.schema.field(column.name).type
        assert getattr(found, "value_type", found) == column.type


@pytest.mark.parametrize("name", TABLES)
def test_rows_are_looked_up_and_filtered_and_intervals_hold_their_latency(name):
    lut = load_lut(FILES / name)
    stem = CONTENT["rows"][0]
    assert lut.latency_ms(stem["op_id"]) == stem["latency_ms"]
    assert lut.filter(origin=None, kind="conv").table.column("op_id").to_pylist() == [stem["op_id"]]
    row = lut.find(stem["op_id"])
    assert row["latency_low_ms"] <= row["latency_ms"] <= row["latency_high_ms"]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_any_version_can_be_written_and_merged_as_one_of_today(name, tmp_path):
    lut = load_lut(FILES / name)
    write_lut(tmp_path / "copy.parquet", lut.table, metadata=lut.metadata, visits=lut.visits)
    verify_lut(tmp_path / "copy.parquet")
    merged = merge([FILES / name, FILES / TABLES[1]], tmp_path / "merged.parquet", "newest")
    assert (merged.rows, merged.same, merged.conflicts) == (5, 5, 0)
    verify_lut(merged.out)


def test_the_file_of_today_verifies():
    verify_lut(FILES / TABLES[1])


def test_there_is_a_reader_and_a_file_for_every_version_and_the_last_one_is_of_today():
    assert sorted(VERSIONS) == list(range(1, SCHEMA_VERSION + 1))
    for version in VERSIONS:
        lut = load_lut(FILES / f"{version}.parquet")
        assert lut.metadata["schema_version"] == version
    assert pq.read_schema(FILES / f"{SCHEMA_VERSION}.parquet").names == [c.name for c in COLUMNS]


def test_a_newer_version_is_refused_with_both_named(tmp_path):
    table, stored = pq.read_table(FILES / "1.parquet"), pq.read_metadata(FILES / "1.parquet").metadata
    newer = str(SCHEMA_VERSION + 1).encode()
    with pq.ParquetWriter(tmp_path / "newer.parquet", table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({**stored, b"hwprof.schema_version": newer})
    with pytest.raises(LutError, match=r"has schema 2, this hwprof reads schema 1; upgrade hwprof"):
        load_lut(tmp_path / "newer.parquet")


def test_columns_that_no_version_lacks_are_still_missed(tmp_path):
    table = pq.read_table(FILES / "1-early.parquet").drop_columns(["build_id"])
    stored = pq.read_metadata(FILES / "1-early.parquet").metadata
    with pq.ParquetWriter(tmp_path / "t.parquet", table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(stored)
    with pytest.raises(LutError, match="lacks the columns build_id"):
        load_lut(tmp_path / "t.parquet")
