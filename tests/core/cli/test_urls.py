"""Commands that read a table take its URL too."""

import pytest
from click.testing import CliRunner

from hwprof.build import BuildOptions, build_lut
from hwprof.cli.main import cli
from hwprof.lut import load_lut

pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'hwprof[share]'")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "lut.parquet"
    build_lut(BuildOptions("simulated", "tiny", path, target="exact", effort="fast"))
    return path


@pytest.mark.parametrize(
    "words",
    [
        ("lut", "info"),
        ("lut", "show"),
        ("lut", "lint"),
        ("lut", "verify"),
        ("lut", "cite"),
        ("lut", "merge", "--out", "merged.parquet"),
        ("lut", "export", "--format", "csv", "--out", "rows.csv"),
        ("report", "-o", "page.html"),
        ("lut", "plot", "-o", "chart.svg"),
    ],
)
def test_a_table_is_named_by_its_url(words, table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, [*words, table.as_uri()], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_load_lut_takes_a_url(table):
    assert load_lut(table.as_uri()).table.equals(load_lut(table).table)
