"""CSV and JSON: everything that the table holds, read back with nothing of ours."""

from __future__ import annotations

import csv
import json
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hwprof.errors import LutError
from hwprof.lut import COLUMNS, load_lut, write_lut
from hwprof.lut.exporting import export


@pytest.fixture
def table(make, tmp_path):
    rows = [make.row(op, 0.1 + i, reason='a "quoted", text') for i, op in enumerate(make.ops[:4])]
    rows += [make.row(make.ops[4], None), make.row(make.ops[5], 0.7, environment_id=make.there)]
    write_lut(tmp_path / "lut.parquet", rows, metadata=make.metadata)
    return tmp_path / "lut.parquet"


def test_csv_has_every_row_and_column(table, tmp_path):
    made = export(table, tmp_path / "lut.csv", "csv")
    frame = pd.read_csv(made.out, dtype={"op_id": str}, parse_dates=["started_at"])
    lut = load_lut(table).to_pandas()
    assert list(frame.columns) == [column.name for column in COLUMNS]
    assert made.rows == len(frame) == len(lut)
    assert (frame["op_id"] == lut["op_id"]).all()
    for name in ("latency_ms", "p50_ms", "in_channels", "flops"):
        np.testing.assert_array_equal(frame[name].astype(lut[name].dtype), lut[name])
    assert (frame["started_at"] == lut["started_at"]).all()


def test_csv_says_numbers_of_single_precision_in_short_and_null_as_nothing(table, tmp_path):
    with export(table, tmp_path / "lut.csv", "csv").out.open() as file:
        rows = {row["op_id"]: row for row in csv.DictReader(file)}
    found = rows[load_lut(table).filter(latency_ms=0.1).table.column("op_id")[0].as_py()]
    assert (found["latency_ms"], found["p50_ms"]) == ("0.1", "0.11")
    assert found["reason"] == 'a "quoted", text'
    assert found["energy_mj"] == ""


def test_json_has_metadata_columns_and_rows(table, tmp_path):
    found = json.loads(export(table, tmp_path / "lut.json", "json").out.read_text())
    lut = load_lut(table)
    assert found["metadata"] == dict(lut.metadata)
    assert [column["name"] for column in found["columns"]] == [column.name for column in COLUMNS]
    assert {c["name"]: c["unit"] for c in found["columns"]}["latency_ms"] == "ms"
    for row, stored in zip(found["rows"], lut.table.to_pylist(), strict=True):
        for name, value in stored.items():
            match row[name]:
                case float() as number:
                    assert np.float32(number) == np.float32(value)
                case other if name == "started_at":
                    assert other == value.isoformat()
                case other:
                    assert other == value


@pytest.mark.parametrize("form", ["csv", "json"])
def test_rows_can_be_chosen(table, tmp_path, make, form):
    assert export(table, tmp_path / "one", form, environment=make.there).rows == 1
    assert export(table, tmp_path / "all", form, cache="warm", dtype="float32").rows == 6


@pytest.mark.parametrize("form", ["csv", "json", "ofa"])
@pytest.mark.parametrize(
    ("chosen", "why"),
    [
        ({"dtype": "flaot32"}, "dtype 'flaot32' is of no row of .*; its rows have float32$"),
        ({"cache": "evicted"}, "cache 'evicted' is of no row of .*; its rows have in_chain, warm$"),
        ({"environment": "env-nowhere"}, "environment 'env-nowhere' is not in"),
    ],
)
def test_a_choice_that_no_row_has_is_an_error_not_an_empty_file(save, make, tmp_path, form, chosen, why):
    save([make.row(make.ops[0]), make.row(make.ops[0], cache="in_chain")])
    with pytest.raises(LutError, match=why):
        export(tmp_path / "lut.parquet", tmp_path / "out", form, **chosen)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["csv", "ofa"])
def test_choices_that_no_row_has_together_name_those_that_there_are(save, make, tmp_path, form):
    save([make.row(make.ops[0]), make.row(make.ops[0], cache="in_chain", environment_id=make.there)])
    why = (
        "no row of .* has environment 'env-there' and cache 'warm' together; its rows have "
        "env-here with warm, env-there with in_chain$"
    )
    with pytest.raises(LutError, match=why):
        export(tmp_path / "lut.parquet", tmp_path / "out", form, environment=make.there, cache="warm")


def test_an_environment_that_is_described_but_has_no_row_is_an_error(save, make, tmp_path):
    save([make.row(make.ops[0])])
    with pytest.raises(
        LutError, match=r"environment 'env-there' is of no row of .*; its rows have env-here$"
    ):
        export(tmp_path / "lut.parquet", tmp_path / "out", "csv", environment=make.there)


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_table_with_impossible_numbers_is_refused_and_nothing_is_left(table, tmp_path, form):
    stored = pq.ParquetFile(table).read()
    place = stored.column_names.index("latency_ms")
    stored = stored.set_column(place, "latency_ms", pa.array([float("nan")] * 6))
    metadata = pq.read_metadata(table).metadata
    with pq.ParquetWriter(table, stored.schema, store_schema=False) as writer:
        writer.write_table(stored)
        writer.add_key_value_metadata({k: v for k, v in metadata.items() if k.startswith(b"hwprof.")})
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(LutError, match="latency_ms is nan"):
        export(table, tmp_path / "out", form)
    assert sorted(os.listdir(tmp_path)) == before


def test_unknown_names_are_refused(table, tmp_path):
    with pytest.raises(LutError, match="choose of csv, json, ofa"):
        export(table, tmp_path / "out", "xml")
    with pytest.raises(LutError, match="choose of latency_ms"):
        export(table, tmp_path / "out", "ofa", statistic="mean")
