"""`hwprof report` and `hwprof lut plot` as a user meets them."""

import json

import pytest
from click.testing import CliRunner

from hwprof.build import BuildOptions, build_lut
from hwprof.cli.lut_plot import CHARTS
from hwprof.cli.main import cli
from hwprof.errors import LutError
from hwprof.report.plot import NAMES


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "lut.parquet"
    build_lut(BuildOptions("simulated", "tiny", path, target="exact", effort="fast"))
    return path


def run(*words):
    return CliRunner().invoke(cli, list(map(str, words)), catch_exceptions=False)


def test_report_says_what_it_wrote_and_what_it_left_out(table, tmp_path):
    done = run("report", table, "-o", tmp_path / "page.html")
    assert done.exit_code == 0
    assert done.stdout.startswith(f"{tmp_path / 'page.html'}: 10 rows, ")
    assert "without prediction-0: no network was measured" in done.stderr
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")


def test_report_as_json(table, tmp_path):
    done = run("report", table, "-o", tmp_path / "page.html", "--rows", "5", "--json")
    found = json.loads(done.stdout)
    assert found["rows"] == 5
    assert found["rows_of_tables"] == 10
    assert found["bytes"] == (tmp_path / "page.html").stat().st_size
    assert "latency-flops-0" in found["charts"]


def test_plot_draws_and_says_what(table, tmp_path):
    done = run("lut", "plot", table, "-o", tmp_path / "chart.svg", "--chart", "heatmap", "--json")
    found = json.loads(done.stdout)
    assert found["chart"] == "heatmap"
    assert found["caption"].startswith("10 ops of ")


def test_help_names_every_chart():
    assert CHARTS == NAMES


def test_page_over_a_table_is_refused(table, tmp_path):
    with pytest.raises(LutError, match="must end in"):
        run("report", table, "-o", table)
