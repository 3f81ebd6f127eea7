"""`hwprof lut export`."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from hwprof.cli.lut_export import export
from hwprof.lut import write_lut
from hwprof.lut.exporting.export import FORMATS, STATISTICS


@pytest.fixture
def table(make, tmp_path):
    write_lut(tmp_path / "lut.parquet", [make.row(op) for op in make.ops], metadata=make.metadata)
    return tmp_path / "lut.parquet"


def run(*arguments):
    return CliRunner().invoke(export, [str(argument) for argument in arguments], catch_exceptions=False)


def test_it_names_what_the_form_cannot_say(make, table, tmp_path):
    done = run(table, "--format", "s3nas", "--out", tmp_path / "lut")
    assert done.exit_code == 0
    assert "lut: 5 rows as 6 entries of s3nas" in done.output
    assert f"left out: {make.ops[4].label}: a head is one op here" in done.output


def test_json_lists_all_that_was_left_out(make, table, tmp_path):
    done = run(table, "--format", "ofa", "--out", tmp_path / "ofa.yaml", "--json")
    told = json.loads(done.output)
    assert told["rows"] == told["entries"] == 1
    assert {row["label"] for row in told["left_out"]} == {op.label for op in make.ops[:5]}


def test_the_choices_of_the_command_are_those_of_the_library():
    options = {option.name: option for option in export.params}
    assert tuple(options["file_format"].type.choices) == FORMATS
    assert tuple(options["statistic"].type.choices) == STATISTICS
