"""A filter and a look-up read only the row groups that may hold what is asked for."""

from __future__ import annotations

import pytest

from hwprof.errors import LutError, MissingRow
from hwprof.lut import load_lut, partial, write_lut
from hwprof.lut.row_groups import RowGroups
from hwprof.ops import conv, mbconv

CONVS = [conv((1, 8, 8, 8), 8 + i) for i in range(20)]
OPS = [*CONVS, *(mbconv((1, 8, 8, 8), 8 + i, 3, 2) for i in range(20))]


@pytest.fixture
def table(make, tmp_path, monkeypatch):
    """80 rows in row groups of 10: two for each kind and environment."""
    monkeypatch.setattr(partial, "ROWS_PER_GROUP", 10)
    rows = [
        make.row(op, 1.0 + i, environment_id=environment)
        for i, op in enumerate(OPS)
        for environment in (make.here, make.there)
    ]
    write_lut(tmp_path / "lut.parquet", rows, metadata=make.metadata)
    return tmp_path / "lut.parquet"


@pytest.fixture
def lut_and_asked(table, monkeypatch):
    """A table, and the row groups of each read."""
    asked = []
    real = RowGroups.read

    def read(self, names):
        asked.append((tuple(names), self.numbers))
        return real(self, names)

    monkeypatch.setattr(RowGroups, "read", read)
    return load_lut(table), asked


def test_a_filter_reads_two_of_eight_row_groups(lut_and_asked, make):
    lut, asked = lut_and_asked
    found = lut.filter(kind="mbconv", environment_id=make.there)
    assert len(found) == 20
    assert set(found.table.column("kind").to_pylist()) == {"mbconv"}
    assert {len(groups) for _, groups in asked} == {2}


def test_filters_find_the_same_as_without_statistics(table, make, monkeypatch):
    wanted = (
        {"kind": ["mbconv", "fc"]}, {"environment_id": make.here, "in_channels": 8}, {"kind": "unknown"},
        {"reason": None}, {"residual": True}, {"latency_ms": 3.0}, {"origin": None, "threads": 1},
    )  # fmt: skip
    found = [load_lut(table).filter(**each).table.to_pylist() for each in wanted]
    monkeypatch.setattr("hwprof.lut.row_groups._may_hold", lambda statistics, values: True)
    assert [load_lut(table).filter(**each).table.to_pylist() for each in wanted] == found
    assert [len(rows) for rows in found] == [40, 40, 0, 80, 2, 2, 80]


def test_a_filter_still_refuses_a_value_of_another_type(table):
    with pytest.raises(LutError, match="column threads takes int32, not"):
        load_lut(table).filter(threads="one")


def test_one_op_is_looked_up_in_its_row_groups(lut_and_asked, make):
    lut, asked = lut_and_asked
    assert lut.latency_ms(OPS[3], environment=make.here) == 4.0
    assert lut.find(OPS[3].op_id, environment=make.there)["latency_ms"] == 4.0
    assert all(len(groups) <= 4 for _, groups in asked)
    assert all(len(groups) == 1 for names, groups in asked if "op_json" in names)


def test_ops_are_read_only_where_the_environment_is(lut_and_asked, make, monkeypatch):
    """Rows are sorted by kind first, so that statistics alone leave six groups of ten million rows."""
    monkeypatch.setattr("hwprof.lut.row_groups._may_hold", lambda statistics, values: True)
    lut, asked = lut_and_asked
    assert lut.latency_ms(OPS[3], environment=make.here) == 4.0
    assert sum(names == ("environment_id",) for names, _ in asked) == 8
    assert sum(names == ("op_id",) for names, _ in asked) == 4
    assert all(len(groups) == 1 for _, groups in asked)


def test_environments_are_not_mixed_however_few_row_groups_hold_the_op(table, make, tmp_path):
    """The op's own row group knows one environment only; the table has two."""
    rows = load_lut(table).filter(environment_id=make.here).table.to_pylist()
    rows += load_lut(table).filter(environment_id=make.there, kind="mbconv").table.to_pylist()
    write_lut(tmp_path / "two.parquet", rows, metadata=make.metadata)
    with pytest.raises(MissingRow, match="from 2 environments"):
        load_lut(tmp_path / "two.parquet").latency_ms(OPS[0])


def test_a_missing_op_is_worded_by_the_whole_table(table, make):
    with pytest.raises(MissingRow, match="nearest"):
        load_lut(table).latency_ms(conv((1, 8, 8, 8), 999), environment=make.here)


def test_who_asks_often_gets_an_index(lut_and_asked, make):
    lut, asked = lut_and_asked
    for op in OPS:
        lut.latency_ms(op, environment=make.here)
    before = len(asked)
    for i, op in enumerate(OPS):
        assert lut.latency_ms(op, environment=make.here) == 1.0 + i
    assert len(asked) == before
