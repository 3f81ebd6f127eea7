"""`hwprof lut merge`."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from hwprof.cli.lut_merge import merge
from hwprof.errors import LutError
from hwprof.lut import load_lut
from hwprof.lut.merging import RULES


def run(*arguments):
    return CliRunner().invoke(merge, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def tables(make, shard):
    a = shard("a", [make.row(op, 1.0) for op in make.ops], visits=True, licence="MIT")
    b = shard("b", [make.row(op, 2.0) for op in make.ops[:2]], visits=True)
    return a, b


def test_it_says_what_was_merged_and_which_rows_won(make, tables, tmp_path):
    done = run(*tables, "--out", tmp_path / "all.parquet", "--on-conflict", "most-precise")
    origins = {path: load_lut(path).metadata["content_hash"][:16] for path in tables}
    assert done.exit_code == 0
    assert "all.parquet: 6 rows of 2 tables" in done.output
    assert f"{origins[tables[1]]} 2 rows: {tables[1]}" in done.output
    assert "18 visits" in done.output
    assert "2 rows differed between tables; kept by the rule most-precise:" in done.output
    assert f"{make.ops[0].label}: {origins[tables[0]]}, not {origins[tables[1]]}" in done.output
    assert "licence: MIT AND NOASSERTION" in done.output


def test_json_tells_all(tables, tmp_path):
    out = tmp_path / "all.parquet"
    done = run(*tables, "--out", out, "--on-conflict", "newest", "--without-visits", "--json")
    told = json.loads(done.output)
    assert (told["rows"], told["conflicts"], told["same"], told["visits"]) == (6, 2, 0, None)
    assert len(told["told"]) == 2
    assert [source["rows"] for source in told["sources"]] == [6, 2]
    assert sum(told["by_origin"].values()) == 6


def test_conflicts_are_refused_unless_a_rule_is_named(tables, tmp_path):
    with pytest.raises(LutError, match="2 rows differ between the tables"):
        run(*tables, "--out", tmp_path / "all.parquet")
    assert not (tmp_path / "all.parquet").exists()


def test_the_rules_of_the_command_are_those_of_the_library():
    option = next(option for option in merge.params if option.name == "on_conflict")
    assert tuple(option.type.choices) == RULES


def test_a_table_that_stands_at_out_is_replaced_when_asked(tables, tmp_path):
    out = tmp_path / "all.parquet"
    assert run(tables[1], "--out", out).exit_code == 0
    assert run(tables[0], "--out", out, "--overwrite").exit_code == 0
    assert len(load_lut(out)) == 6
