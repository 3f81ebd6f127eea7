"""`hwprof spaces`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hwprof.cli.spaces import spaces
from hwprof.errors import SpaceError
from hwprof.space import list_spaces, load_space


def test_list_shows_every_shipped_space_with_its_op_count() -> None:
    result = CliRunner().invoke(spaces)
    assert result.exit_code == 0
    rows = {line.split()[0]: line.split() for line in result.output.splitlines()}
    assert set(rows) == {"name", *list_spaces()}
    assert rows["s3nas"][1:5] == ["chain", "29", "152", "10^34.8"]
    assert rows["nb201"][1:5] == ["cell", "6", "13", "10^4.2"]


def test_json_list_is_a_json_list_of_the_same() -> None:
    entries = json.loads(CliRunner().invoke(spaces, ["--json"]).stdout)
    assert [entry["name"] for entry in entries] == list(list_spaces())
    for entry in entries:
        space = load_space(entry["name"])
        assert entry["ops"] == len(space.ops())
        assert entry["networks_log10"] == pytest.approx(space.size, abs=0.01)
        assert entry["space_hash"] == space.space_hash


def test_one_space_is_described_position_by_position() -> None:
    result = CliRunner().invoke(spaces, ["tiny"])
    assert result.exit_code == 0
    assert "tiny (chain): " in result.output
    assert "3 blocks, 10 ops, 10^2.0 networks, input 1x3x32x32 float32" in result.output
    assert "3:2+5:2 se0.25 hswish, skip" in result.output
    described = json.loads(CliRunner().invoke(spaces, ["tiny", "--json"]).stdout)
    assert [p["name"] for p in described["positions"]] == [p.name for p in load_space("tiny").positions]
    assert described["positions"][2]["choices"][-1] == "skip"
    assert described["positions"][2]["ops"] == 4


def test_a_file_is_described_like_a_shipped_space(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        "name: own\nfamily: chain\nsummary: '[bold] is no markup'\ninput: [3, 8, 8]\n"
        "stem: {channels: 4, kernel: 3, stride: 1, activation: relu}\n"
        "stages: {blocks: 1, channels: 4, stride: 1}\n"
        "block: {kind: mbconv, kernel: 3, expansion: 2, activation: relu}\n"
        "head: {activation: relu, classes: 2}\n",
        encoding="utf-8",
    )
    result = CliRunner().invoke(spaces, [str(path)])
    assert result.exit_code == 0
    assert "own (chain): [bold] is no markup" in result.output


def test_an_unknown_space_is_a_space_error_for_the_main_group_to_print() -> None:
    result = CliRunner().invoke(spaces, ["tniy"])
    assert isinstance(result.exception, SpaceError)
    assert "did you mean 'tiny'?" in str(result.exception)


def test_help_has_an_example() -> None:
    assert "hwprof spaces s3nas" in CliRunner().invoke(spaces, ["--help"]).output
