"""The visits of merged rows go with their rows."""

from __future__ import annotations

import shutil
from collections import Counter
from datetime import timedelta

import pytest

from hwprof.errors import LutError
from hwprof.lut import load_lut, visits_path_of
from hwprof.lut.merging import merge
from hwprof.lut.schema import VISITS_ORDER


def count(path):
    return Counter(load_lut(path).visits.column("op_id").to_pylist())


def test_visits_of_all_tables_are_there_in_order(make, shard, tmp_path):
    a = shard("a", [make.row(op) for op in make.ops[:3]], visits=True)
    b = shard("b", [make.row(op) for op in make.ops[3:]], visits=True)
    merged = merge([a, b], tmp_path / "out.parquet")
    found = load_lut(merged.out).visits.to_pylist()
    assert merged.visits == len(found) == 18
    assert found == sorted(found, key=lambda row: tuple(row[name] for name in VISITS_ORDER))


def test_the_visits_of_a_row_that_loses_go_and_those_of_the_winner_stay(make, shard, tmp_path):
    old = make.row(make.ops[0], 1.0)
    new = make.row(make.ops[0], 2.0, started_at=old["started_at"] + timedelta(days=1))
    a = shard("a", [old, make.row(make.ops[1])], visits=True)
    b = shard("b", [new], visits=True)
    merged = merge([a, b], tmp_path / "out.parquet", "newest")
    assert count(merged.out) == {make.ops[0].op_id: 3, make.ops[1].op_id: 3}
    visits = load_lut(merged.out).visits.to_pylist()
    assert {v["p10_ms"] for v in visits if v["op_id"] == make.ops[0].op_id} == {2.0}


def test_equal_rows_have_their_visits_once_wherever_they_lie(make, shard, tmp_path):
    rows = [make.row(op) for op in make.ops[:2]]
    a, b = shard("a", rows, visits=True), shard("b", rows, visits=True)
    c = shard("c", [*rows, make.row(make.ops[2])])
    for paths in ((a, b), (c, a), (a, c, b)):
        merged = merge(paths, tmp_path / "out.parquet", overwrite=True)
        assert count(merged.out) == {row["op_id"]: 3 for row in rows}


def test_tables_without_visits_make_a_table_without(make, shard, tmp_path):
    merged = merge([shard("a", [make.row(make.ops[0])])], tmp_path / "out.parquet")
    assert merged.visits is None
    assert load_lut(merged.out).metadata["visits_hash"] is None
    assert not visits_path_of(merged.out).exists()


def test_visits_can_be_left_out(make, shard, tmp_path):
    a = shard("a", [make.row(make.ops[0])], visits=True)
    merged = merge([a], tmp_path / "out.parquet", visits=False)
    assert merged.visits is None
    assert load_lut(merged.out).visits.num_rows == 0


def test_missing_visits_say_how_to_go_on(make, shard, tmp_path):
    a = shard("a", [make.row(make.ops[0])], visits=True)
    visits_path_of(a).unlink()
    with pytest.raises(LutError, match="--without-visits"):
        merge([a], tmp_path / "out.parquet")
    assert merge([a], tmp_path / "out.parquet", visits=False).rows == 1


def test_visits_of_another_table_are_refused(make, shard, tmp_path):
    a, b = (shard(name, [make.row(op)], visits=True) for name, op in zip("ab", make.ops, strict=False))
    shutil.copy(visits_path_of(b), visits_path_of(a))
    with pytest.raises(LutError, match="visits of another table"):
        merge([a], tmp_path / "out.parquet")
