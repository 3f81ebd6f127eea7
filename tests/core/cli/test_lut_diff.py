"""`hwprof lut diff` as a user meets it, on tables that two builds made."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from hwprof.build import BuildOptions, build_lut
from hwprof.cli.lut_diff import rebuild_text
from hwprof.cli.main import cli
from hwprof.lut import load_lut, write_lut
from hwprof.validation.rebuild import rebuild
from hwprof.validation.setting import Wanted


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Two builds of ten ops on a machine with a percent of noise."""
    folder = tmp_path_factory.mktemp("tables")
    paths = folder / "a.parquet", folder / "b.parquet"
    for seed, path in enumerate(paths):
        build_lut(BuildOptions("simulated", "tiny", path, target="quiet", effort="fast", seed=seed))
    return paths


@pytest.fixture(scope="module")
def changed(tables, tmp_path_factory):
    """The second table after one op became 30 % slower and another one failed."""
    table = load_lut(tables[1])
    rows, visits = table.table.to_pylist(), table.visits.to_pylist()
    for line in rows + visits:
        if line["op_id"] == rows[2]["op_id"]:
            line |= {name: 1.3 * value for name, value in line.items() if name.endswith("_ms") and value}
    numbers = [name for name in rows[5] if name.endswith("_ms") or name.startswith("energy_mj")]
    rows[5] |= dict.fromkeys([*numbers, "visits", "clean_visits", "processes", "samples"])
    rows[5] |= {"state": "failed", "reason": "the output was wrong"}
    visits = [visit for visit in visits if visit["op_id"] != rows[5]["op_id"]]
    path = tmp_path_factory.mktemp("changed") / "c.parquet"
    write_lut(path, rows, metadata=table.metadata, visits=visits)
    return path, rows[2]["label"], rows[5]["label"]


def run(*words):
    return CliRunner().invoke(cli, ["lut", "diff", *map(str, words)], catch_exceptions=False)


def test_two_builds_of_the_same_have_no_changed_row(tables):
    done = run(*tables, "--max-change", "0")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert "matched          10 rows, 10 with a usable number in both; 0 only in a, 0 only in b" in lines
    assert any(line.startswith("significant      0 of 10 rows changed") for line in lines)
    assert any(line.startswith("common factor    ") and "shared by 10 rows" in line for line in lines)
    assert "states           unchanged" in lines
    assert sum(line.startswith("timeline of ") for line in lines) == 2
    assert done.stderr == ""


def test_changed_row_and_failed_row_are_named(tables, changed):
    path, slower, failed = changed
    text = run(tables[0], path).stdout
    (row,) = [line for line in text.splitlines() if line.endswith(slower)]
    assert row.split()[0].startswith("+")
    assert 28 < float(row.split()[0].rstrip("%")) < 32
    assert "1 converged -> failed" in text
    assert f"failed: {failed}: the output was wrong" in text


@pytest.mark.parametrize(("most", "code"), [("0.5", 0), ("0.2", 1), ("0", 1)])
def test_exit_code_tells_of_a_change_above_the_bound(tables, changed, most, code):
    done = run(tables[0], changed[0], "--max-change", most)
    assert done.exit_code == code
    assert "significant      1 of 9" in done.stdout


def test_json_holds_what_the_text_says(tables, changed):
    found = json.loads(run(tables[0], changed[0], "--json", "--limit", "1").stdout)
    assert (found["matched"], found["compared"], found["tested"], found["significant"]) == (10, 9, 9, 1)
    assert found["largest_change"] == pytest.approx(0.3, abs=0.02)
    (row,) = found["rows"]
    assert row["label"] == changed[1]
    assert row["own_low"] < 1.3 < row["own_high"]
    assert found["states"] == [{"a": "converged", "b": "failed", "rows": 1}]
    assert found["environments"][0]["differences"] == []


def test_limit_says_how_many_more_there_are(tables, changed):
    table = load_lut(tables[1])
    rows, visits = table.table.to_pylist(), table.visits.to_pylist()
    slower = {row["op_id"] for row in rows[:3]}
    for line in rows + visits:
        if line["op_id"] in slower:
            line |= {name: 1.4 * value for name, value in line.items() if name.endswith("_ms") and value}
    path = changed[0].with_name("three.parquet")
    write_lut(path, rows, metadata=table.metadata, visits=visits)
    text = run(tables[0], path, "--limit", "2").stdout
    assert "significant      3 of 10" in text
    assert "2 of 3 shown; --limit 3 shows all" in text


def test_bad_input_is_one_line(tables, tmp_path):
    def refused(*words):
        done = subprocess.run(
            [sys.executable, "-m", "hwprof", "lut", "diff", *map(str, words)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        return done.stderr

    assert "are the same file" in refused(tables[0], tables[0])
    assert "does not exist" in refused(tables[0], tmp_path / "nothing.parquet")
    assert "is in neither table" in refused(*tables, "--environment", "nowhere")
    assert "--limit" in refused(*tables, "--limit", "0")


def test_rebuild_in_words(tables):
    lines = rebuild_text(rebuild(tables[0], Wanted(effort="fast"), count=4)).splitlines()
    assert lines[0].startswith(f"{tables[0]}: 4 of 10 usable rows measured again in ")
    assert lines[0].endswith("s: they agree")
    assert "common factor    not told apart: fewer than 8 rows of one pair of builds" in lines
