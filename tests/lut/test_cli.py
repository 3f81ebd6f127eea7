"""`hwprof lut`: what it prints, and that --json is JSON and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from hwprof.cli.lut import lut as command
from hwprof.errors import LutError
from hwprof.lut import query


@pytest.fixture
def run():
    def invoke(*words):
        result = CliRunner().invoke(command, [str(word) for word in words])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def mixed(save, make):
    """Four good rows, an unstable and a failed one."""
    rows = [make.row(op, float(i)) for i, op in enumerate(make.ops, start=1)]
    rows[1] |= {"state": "unstable", "reason": "floors differ by 3 %"}
    rows[2] = make.row(make.ops[2], None)
    return save(rows)


def test_info_counts_states_and_says_what_is_not_known_yet(run, mixed):
    found = json.loads(run("info", mixed.path, "--json").stdout)
    assert found["rows"] == 6
    assert found["rows_by_state"] == {"converged": 4, "unstable": 1, "failed": 1}
    assert found["converged_share"] == pytest.approx(4 / 6)
    assert found["interval_half_width_median"] == pytest.approx(0.015, rel=1e-5)
    assert found["composition"] == found["validated_error"] == "uncalibrated"
    assert found["content_hash"] == mixed.metadata["content_hash"]
    assert found["visits_file"] is None
    assert [e["rows"] for e in found["environments"]] == [6, 0]


def test_info_is_readable(run, mixed):
    text = run("info", mixed.path).stdout
    assert "4 converged, 1 failed, 1 unstable; converged 66.7%" in text
    assert "±1.50% (median)" in text
    assert "env-here: 6 rows, cpu-a, ort 1.31" in text
    assert "validated error  uncalibrated" in text
    assert mixed.metadata["content_hash"] in text


def test_info_of_an_empty_table(run, save):
    empty = save([])
    assert json.loads(run("info", empty.path, "--json").stdout)["converged_share"] is None
    assert "no row has an interval" in run("info", empty.path).stdout


def test_show_prints_estimate_interval_median_state_and_visits(run, mixed, make):
    lines = run("show", mixed.path, "--sort", "latency_ms").stdout.splitlines()
    assert lines[0].split() == ["op", "latency", "ms", "p50", "ms", "state", "visits"]
    assert lines[1].split() == [make.ops[0].label, "1", "±", "0.015", "1.1", "converged", "24"]
    assert lines[-1].split() == [make.ops[2].label, "-", "-", "failed:", "worker", "died", "-"]


def test_show_filters_sorts_and_limits(run, mixed, make):
    options = ("--state", "converged", "--state", "unstable", "--sort", "latency_ms", "--descending")
    rows = json.loads(run("show", mixed.path, *options, "--limit", 2, "--json").stdout)
    assert [row["label"] for row in rows] == [make.ops[5].label, make.ops[4].label]
    assert rows[0]["started_at"] == "2026-11-21T08:00:00+00:00"
    limited = run("show", mixed.path, "--kind", "mbconv", "--limit", 1)
    assert "1 of 2 rows" in limited.stderr
    assert len(limited.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--kind", "mbcov"), "--kind mbcov is not in .*; it has conv, fc, head, mbconv, mixconv"),
        (("--state", "good"), "--state good is not in"),
        (("--sort", "speed"), "unknown column 'speed'"),
    ],
)
def test_show_names_what_it_does_not_know(run, mixed, options, said):
    with pytest.raises(LutError, match=said):
        run("show", mixed.path, *options)


def test_query_prints_a_table_or_json(run, mixed):
    sql = (
        "select kind, max(latency_ms) as ms from lut where kind in ('conv', 'fc') group by 1 order by 1"
    )
    assert [line.split() for line in run("query", mixed.path, sql).stdout.splitlines()] == [
        ["kind", "ms"], ["conv", "1"], ["fc", "6"],
    ]  # fmt: skip
    assert json.loads(run("query", mixed.path, sql, "--json").stdout) == [
        {"kind": "conv", "ms": 1.0},
        {"kind": "fc", "ms": 6.0},
    ]


def test_query_json_holds_what_sql_can_return(run, mixed):
    sql = (
        "select 1.5::decimal(4, 2) as d, 1 / 0 as inf, 'nan'::double as nan, null as n, "
        "[1.0, 'nan'::double] as l, date '2026-01-02' as day, timestamp '2026-01-02 03:04:05' as t, "
        "{'a': 1} as s, 'x'::blob as b"
    )
    row = json.loads(run("query", mixed.path, sql, "--json").stdout)[0]
    assert row == {
        "d": 1.5, "inf": None, "nan": None, "n": None, "l": [1.0, None], "day": "2026-01-02",
        "t": "2026-01-02T03:04:05", "s": {"a": 1}, "b": "b'x'",
    }  # fmt: skip
    assert query(mixed, sql).num_rows == 1


@pytest.mark.parametrize("name", ["info", "show", "query"])
def test_every_command_shows_an_example(run, name):
    text = run(name, "--help").stdout
    assert f"hwprof lut {name} lut.parquet" in text
    assert "--json" in text


def test_an_error_is_one_line_on_stderr_and_exit_code_2(tmp_path):
    words = [sys.executable, "-m", "hwprof", "lut", "info", str(tmp_path / "no.parquet")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "does not exist" in done.stderr


def test_the_command_group_imports_nothing_heavy():
    code = (
        "import sys, hwprof.cli.lut, hwprof.lut; "
        "print([m for m in ('numpy', 'pyarrow', 'pandas', 'duckdb', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_loading_a_table_imports_neither_pandas_nor_duckdb(lut):
    code = (
        "import sys; from hwprof.lut import load_lut; load_lut(sys.argv[1]).table; "
        "print([m for m in ('pandas', 'duckdb', 'torch', 'onnx') if m in sys.modules])"
    )
    words = [sys.executable, "-c", code, str(lut.path)]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() == "[]"
