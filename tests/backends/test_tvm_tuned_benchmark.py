"""`benchmarks/tvm_tuned.py` reads its tables right, also when they hold more than it asked for."""

import importlib
import sys
from pathlib import Path

import pytest

from hwprof.lut import load_lut
from hwprof.space import load_space

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def tvm_tuned(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield importlib.import_module("tvm_tuned")
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(FOLDER)):
            del sys.modules[name]


def test_a_result_never_mixes_rows_of_an_earlier_number_of_trials(tvm_tuned, tmp_path, monkeypatch):
    """A run of 64 trials in the folder of a run of 8 published whichever environment came last. Two
    targets of the simulated backend stand for the two numbers of trials."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    out, ops = tmp_path / "tuned.parquet", load_space("tiny").ops()
    asked = {name: ["--backend", "simulated", "--target", name] for name in ("exact", "quiet")}
    ids = {name: tvm_tuned.build(asked[name], Path("tiny"), out) for name in asked}
    assert ids["exact"] != ids["quiet"]
    assert tvm_tuned.build(asked["exact"], Path("tiny"), out) == ids["exact"]
    assert len(load_lut(out)) == 2 * len(ops)
    for name, environment_id in ids.items():
        rows = tvm_tuned.rows_of(out, ops, environment_id)
        assert [row["op_id"] for row in rows] == [op.op_id for op in ops]
        assert {row["target"] for row in rows} == {name}


def test_an_op_without_a_row_in_the_environment_is_left_open(tvm_tuned, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    out, ops = tmp_path / "tuned.parquet", load_space("tiny").ops()
    arguments = ["--backend", "simulated", "--target", "exact", "--limit", "1"]
    rows = tvm_tuned.rows_of(out, ops, tvm_tuned.build(arguments, Path("tiny"), out))
    assert sum(row is not None for row in rows) == 1
