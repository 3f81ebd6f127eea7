"""`hwprof calibrate` and `hwprof validate` as a user runs them."""

import json
import sys
from pathlib import Path

import pytest
from click import UsageError
from click.testing import CliRunner

from hwprof.build import BuildOptions, build_lut
from hwprof.cli.main import cli
from hwprof.errors import BackendUnavailable, LutError


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("lut") / "lut.parquet"
    build_lut(BuildOptions("simulated", "tiny", path, target="quiet", effort="fast"))
    return path


def run(*arguments, code=0):
    """Standard output of a command that ends with this exit code."""
    result = CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


def test_calibrate_then_validate_and_what_info_says_before_and_after(table, tmp_path):
    before = run("lut", "info", table)
    assert "composition      uncalibrated; hwprof calibrate fits one" in before
    told = run("calibrate", table, "--networks", 6, "--effort", "fast")
    assert f"{table}: calibrated on 6 networks in " in told
    assert "tiny floor: " in told
    assert "mean error of each model: sum " in told
    picture = tmp_path / "errors.png"
    told = run("validate", table, "--networks", 6, "--effort", "fast", "--plot", picture)
    assert f"{table}: 6 held-out networks of tiny, floor, " in told
    assert "noise floor    0." in told
    assert "worst: network_" in told
    assert picture.read_bytes().startswith(b"\x89PNG")
    after = run("lut", "info", table)
    assert "composition      tiny floor: " in after
    assert "fitted on 6 networks to" in after
    assert "validated error  tiny floor: mean " in after


def test_validate_prints_one_json_value_and_judges_by_the_asked_bound(table):
    found = json.loads(run("validate", table, "--networks", 4, "--effort", "fast", "--json"))
    assert found["networks"] == 4
    assert found["space"] == "tiny"
    bound = found["mean_error"] / 2
    run("validate", table, "--networks", 4, "--effort", "fast", "--max-error", bound, code=1)
    run("validate", table, "--networks", 4, "--effort", "fast", "--max-error", 0.5)


def test_a_plot_that_cannot_be_written_is_refused_before_anything_is_measured(table):
    before = table.read_bytes()
    for place, message in (
        ("errors.pdf", "a plot is .png or .svg"),
        ("no/such/e.png", "does not exist"),
    ):
        with pytest.raises(LutError, match=message):
            run("validate", table, "--networks", 4, "--plot", place)
    assert table.read_bytes() == before


def test_without_matplotlib_the_command_says_what_installs_it(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'hwprof\[plot\]'"):
        run("validate", table, "--networks", 4, "--plot", "errors.png")


def test_a_table_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(LutError, match=r"missing\.parquet"):
        run("calibrate", tmp_path / "missing.parquet")
    assert list(Path(tmp_path).iterdir()) == []


def test_rebuild_measures_some_rows_again_and_says_whether_they_agree(table):
    before = table.read_bytes()
    told = run("validate", table, "--rebuild", 5, "--effort", "fast")
    assert "5" in told
    found = json.loads(run("validate", table, "--rebuild", 5, "--effort", "fast", "--json"))
    assert (found["drawn"], found["agrees"]) == (5, True)
    assert table.read_bytes() == before


def test_rebuild_takes_no_options_of_networks(table):
    with pytest.raises(UsageError, match="leave out --plot, --measured-in"):
        CliRunner().invoke(
            cli, ["validate", str(table), "--rebuild", "5", "--plot", "e.png"],
            standalone_mode=False, catch_exceptions=False,
        )  # fmt: skip
