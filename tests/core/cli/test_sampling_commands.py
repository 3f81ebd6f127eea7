"""`hwprof sample` and `hwprof transfer` as a user runs them."""

import json

import pytest
from click.testing import CliRunner

from hwprof.build import BuildOptions, build_lut
from hwprof.cli.main import cli
from hwprof.prediction.errors import PredictionError


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("lut") / "lut.parquet"
    build_lut(BuildOptions("simulated", "tiny", path, target="exact", effort="fast", limit=6))
    return path


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    path = tmp_path_factory.mktemp("other") / "other.parquet"
    build_lut(BuildOptions("simulated", "tiny", path, target="quiet", effort="fast"))
    return path


def run(*arguments, code=0):
    result = CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def test_sample_ends_at_the_target_and_names_the_next_step(table):
    done = run("sample", table, "--budget", "5m", "--target-error", "0.05", "--effort", "fast")
    assert "the target is reached: measured" in done.stdout
    assert f"hwprof fit-predictor {table}" in done.stdout
    assert "networks known" in done.stderr
    again = run("sample", table, "--budget", "5m", "--target-error", "0.05", "--json")
    found = json.loads(again.stdout)
    assert found["reached"]
    assert len(found["steps"]) == 1
    told = run("sample", table, "--budget", "5m", "--target-error", "0.05").stdout
    assert "the target was reached before: nothing was measured" in told


def test_sample_that_misses_its_target_ends_with_exit_code_1(other):
    done = run("sample", other, "--budget", "0.01s", "--target-error", "0.05", code=1)
    assert "the budget is used up before the target is reached: measured 0 networks" in done.stdout


def test_transfer_measures_fits_and_says_how_many_more_are_worth_it(table, other, tmp_path):
    out = tmp_path / "p"
    command = ["transfer", other, "--lut", table, "--out", out, "--measure", "4", "--effort", "fast"]
    told = run(*command).stdout
    for line in ("source     other.parquet", "foreseen for a new network", "worth it", "kept in"):
        assert line in told
    assert sorted(path.name for path in out.iterdir()) == ["predictor.json", "weights.safetensors"]
    found = json.loads(run("transfer", other, "--lut", table, "--out", out, "--json").stdout)
    assert found["member"] == "transfer"
    assert found["networks"] >= 4
    assert found["out"] == str(out)
    assert len(found["next_points"]) == found["worth"]


def test_transfer_that_cannot_be_writes_nothing(table, tmp_path):
    out = tmp_path / "p"
    with pytest.raises(PredictionError, match="no rows but the target's own"):
        run("transfer", table, "--lut", table, "--out", out)
    assert not out.exists()
