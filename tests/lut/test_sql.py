"""SQL over a table: answers, and nothing beyond the table."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from hwprof.errors import LutError
from hwprof.lut import query, visits_path_of


def test_sql_sees_every_row_and_column(lut):
    result = query(
        lut, "select kind, count(*) as n, max(latency_ms) as ms from lut group by kind order by ms"
    )
    assert result.to_pylist() == [
        {"kind": "conv", "n": 1, "ms": 1.0},
        {"kind": "mbconv", "n": 2, "ms": 3.0},
        {"kind": "mixconv", "n": 1, "ms": 4.0},
        {"kind": "head", "n": 1, "ms": 5.0},
        {"kind": "fc", "n": 1, "ms": 6.0},
    ]
    assert query(lut, "select * from lut").column_names == lut.table.column_names


def test_sql_joins_the_visits(lut):
    sql = "select l.label, count(*) as n from lut as l join visits as v using (op_id) group by l.label"
    assert {row["n"] for row in query(lut, sql).to_pylist()} == {3}


def test_the_column_named_visits_needs_no_visits_file(lut):
    visits_path_of(lut.path).unlink()
    assert query(lut, "select max(visits) as most from lut").to_pylist() == [{"most": 24}]
    with pytest.raises(LutError, match=r"lut.visits.parquet does not exist"):
        query(lut, "select * from visits")


def test_a_filtered_table_is_queried_as_filtered(lut):
    assert query(lut.filter(kind="mbconv"), "select count(*) as n from lut").to_pylist() == [{"n": 2}]


def test_times_are_utc(lut):
    found = query(
        lut, "select started_at, cast(started_at as varchar) as text from lut limit 1"
    ).to_pylist()[0]
    assert found["started_at"] == datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
    assert found["text"].startswith("2026-11-21 08:00:00")


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("selec 1", "syntax error"),
        ("select nope from lut", '"nope" not found'),
        ("select * from table_of_mine", "table_of_mine does not exist"),
        ("", "one SELECT statement, found none"),
        ("select 1; select 2", "found SELECT, SELECT"),
        ("create table t as select * from lut", "found CREATE"),
        ("copy lut to 'stolen.csv'", "found COPY"),
        ("install httpfs", "one SELECT"),
        ("set enable_external_access = true", "found SET"),
        ("select label, label from lut", "two columns of the result are named label"),
    ],
)
def test_wrong_sql_is_one_line(lut, sql, said):
    with pytest.raises(LutError, match=said) as caught:
        query(lut, sql)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["read_csv('{file}')", "read_text('{file}')", "'{file}'"])
def test_sql_cannot_read_files(lut, tmp_path, source):
    file = tmp_path / "secret.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(LutError, match="SQL: "):
        query(lut, f"select * from {source.format(file=file)}")
