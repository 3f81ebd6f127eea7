"""`hwprof fit-predictor` as a user runs it, on a table of the simulated backend."""

import json

import pytest
from click.testing import CliRunner

from hwprof.build import BuildOptions, build_lut
from hwprof.cli.main import cli
from hwprof.errors import HwprofError
from hwprof.prediction import load_predictor
from hwprof.validation.setting import Wanted
from hwprof.validation.validate import validate


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("lut") / "lut.parquet"
    build_lut(BuildOptions("simulated", "tiny", path, target="exact", effort="fast"))
    validate(path, Wanted(effort="fast"), networks=20, fit_networks=5)
    return path


def run(*arguments):
    result = CliRunner().invoke(cli, ["fit-predictor", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_table_of_measured_networks_gives_a_predictor(table, tmp_path):
    out = tmp_path / "p"
    text = run(table, "--out", out, "--members", "composition,additive,pairwise", "--level", "0.8")
    assert "latency_ms of tiny, fitted on 25 networks" in text
    assert "* composition  mean error 0.0" in text
    assert "made to hold 80% of truths; held" in text
    assert "noise floor" in text
    made = load_predictor(out)
    assert made.member.name == "composition"
    assert made.predict([[0] * len(made.encoding.positions)]).value[0] > 0


def test_json_says_what_the_text_says(table, tmp_path):
    out = tmp_path / "p"
    data = json.loads(
        run(table, "--out", out, "--members", "additive", "--networks", "20", "--seed", "2", "--json")
    )
    assert data["member"] == "additive"
    assert data["networks"] == 20
    assert data["test"]["networks"] == 5
    assert data["out"] == str(out)
    assert data["tried"][0]["scores"]["networks"] == 20
    assert load_predictor(out).summary() == {k: v for k, v in data.items() if k != "out"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--metric", "energy_mj"), "usable energy_mj"),
        (("--networks", "3"), "3 different networks of tiny are too few"),
        (("--space", "s3nas"), "has no networks of space s3nas; it has tiny"),
        (("--members", "oracle"), "member 'oracle' is unknown"),
        (("--points", "nowhere.json"), "nowhere.json cannot be read"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_folder(table, tmp_path, arguments, said):
    out = tmp_path / "p"
    with pytest.raises(HwprofError, match=said):
        run(table, "--out", out, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_points_of_a_file_are_checked(table, tmp_path):
    for bad in ("[]", '{"a": "x"}', '{"a": [true]}', "{"):
        path = tmp_path / "points.json"
        path.write_text(bad)
        with pytest.raises(HwprofError, match="is no JSON object of op_id"):
            run(table, "--out", tmp_path / "p", "--points", path)


def test_the_current_folder_is_refused_before_the_fit(table, tmp_path, monkeypatch):
    """It would be renamed and removed under the shell that stands in it."""
    monkeypatch.chdir(tmp_path)
    for out in (".", tmp_path):
        with pytest.raises(HwprofError, match="is the current folder"):
            run(table, "--out", out, "--members", "oracle")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("fit-predictor", "lut.parquet", "--out", "p"),
        ("transfer", "other.parquet", "--lut", "lut.parquet", "--out", "p"),
        ("sample", "lut.parquet", "--budget", "1s"),
    ],
)
def test_a_seed_below_0_is_a_usage_error(arguments):
    result = CliRunner().invoke(cli, [*arguments, "--seed", "-1"])
    assert result.exit_code == 2
    assert "-1 is not in the range 0<=x<=" in result.output
