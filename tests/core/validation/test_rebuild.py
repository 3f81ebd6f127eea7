"""Rows measured again: agreement where nothing changed, the row that is wrong where one is."""

import json
import os
from pathlib import Path

import pytest

from hwprof.build import BuildOptions, build_lut
from hwprof.cli.lut_diff import rebuild_text
from hwprof.errors import BuildError, LutError
from hwprof.lut import load_lut, write_lut
from hwprof.validation.rebuild import rebuild
from hwprof.validation.setting import Wanted

WANTED = Wanted(effort="fast")
OUT_OF_TREE = Path(__file__).parents[2] / "backends" / "out_of_tree"


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """A table of ten ops on a machine with a percent of noise."""
    path = tmp_path_factory.mktemp("quiet") / "lut.parquet"
    build_lut(BuildOptions("simulated", "tiny", path, target="quiet", effort="fast", seed=1))
    return path


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_rows_measured_again_agree_and_the_table_stays_as_it_was(quiet):
    before = files_of(quiet.parent)
    found = rebuild(quiet, WANTED, count=9, seed=3)
    assert found.agrees
    assert (found.drawn, found.usable, found.unusable) == (9, 10, ())
    assert found.diff.matched == len(found.diff.rows) == found.diff.tested == 9
    assert (found.diff.only_a, found.diff.only_b) == (0, 0)
    assert found.diff.usable.p95 < 0.02
    assert found.diff.path_a == quiet
    assert not found.diff.path_b.parent.exists()
    builds = {factor.build_b for factor in found.diff.factors}
    assert builds.isdisjoint(load_lut(quiet).table.column("build_id").to_pylist())
    assert files_of(quiet.parent) == before
    summary = json.loads(json.dumps(found.summary(2)))
    assert (summary["agrees"], summary["drawn"], len(summary["diff"]["rows"])) == (True, 9, 2)


def test_the_seed_says_which_rows_are_drawn(quiet):
    drawn = [
        {row.op_id for row in rebuild(quiet, WANTED, count=2, seed=seed).diff.rows} for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_row_that_is_wrong_in_the_table_is_found(quiet, tmp_path):
    table = load_lut(quiet)
    rows, visits = table.table.to_pylist(), table.visits.to_pylist()
    wrong = rows[4]["op_id"]
    for line in rows + visits:
        if line["op_id"] == wrong:
            line |= {name: 1.5 * value for name, value in line.items() if name.endswith("_ms") and value}
    path = tmp_path / "wrong.parquet"
    write_lut(path, rows, metadata=table.metadata, visits=visits)
    found = rebuild(path, WANTED, count=10)
    assert not found.agrees
    assert [row.op_id for row in found.diff.significant] == [wrong]
    assert found.diff.largest_change == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.parametrize("count", [0, -1, 11])
def test_more_rows_than_there_are_or_none_is_refused(quiet, count):
    with pytest.raises(LutError, match=f"has 10 usable rows to measure again; got --rebuild {count}"):
        rebuild(quiet, WANTED, count=count)


def test_rows_without_a_number_to_trust_are_not_drawn(tmp_path):
    path = tmp_path / "lut.parquet"
    build_lut(BuildOptions("simulated", "tiny", path, target="unstable", effort="fast"))
    usable = int(load_lut(path).usable().sum())
    assert usable < 5
    with pytest.raises(LutError, match=f"has {usable} usable rows"):
        rebuild(path, WANTED, count=usable + 1)


def test_row_that_fails_now_is_named_and_does_not_count_as_agreement(tmp_path, monkeypatch):
    """A compiler that gives up on strided ops; the table has a number for one from better days."""
    monkeypatch.syspath_prepend(str(OUT_OF_TREE))
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(OUT_OF_TREE), before])))
    path = tmp_path / "lut.parquet"
    build_lut(BuildOptions("faulty", "tiny", path, target="raise", effort="fast"))
    table = load_lut(path)
    rows = table.table.to_pylist()
    good = next(row for row in rows if row["state"] == "converged")
    bad = next(row for row in rows if row["state"] == "failed")
    measured = [name for name in good if name.endswith("_ms")]
    measured += ["visits", "clean_visits", "processes", "samples", "state", "reason"]
    old = [bad | {name: good[name] for name in measured}]
    write_lut(path, old, metadata=table.metadata)
    found = rebuild(path, WANTED, count=1)
    assert (found.drawn, found.usable) == (1, 1)
    assert found.unusable == ((bad["label"], "failed: the compiler gave up on this op"),)
    assert found.diff.tested == 0
    assert not found.agrees
    text = rebuild_text(found)
    assert "nothing to compare" in text.splitlines()[0]
    assert f"no usable number now: {bad['label']}: failed: the compiler gave up on this op" in text


def test_another_environment_is_refused(quiet, tmp_path):
    table = load_lut(quiet)
    (name, facts), *_ = table.environments.items()
    elsewhere = {"identity": facts["identity"] | {"device": "another"}, "conditions": {}}
    rows = [row | {"environment_id": "0123456789abcdef"} for row in table.table.to_pylist()]
    path = tmp_path / "elsewhere.parquet"
    metadata = table.metadata | {"environments": {"0123456789abcdef": elsewhere}}
    write_lut(path, rows, metadata=metadata)
    with pytest.raises(BuildError, match=r"in environment 0123456789abcdef, .*device 'another'"):
        rebuild(path, WANTED, count=2)
    assert name != "0123456789abcdef"
