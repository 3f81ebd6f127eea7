"""Charts as files."""

import re
from xml.etree import ElementTree

import pytest

from hwprof.errors import LutError
from hwprof.report.plot import write_plot

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("chart", ["latency-flops", "heatmap", "drift", "prediction", "error"])
def test_chart_of_a_table_is_a_picture_with_its_title(validated, tmp_path, chart):
    made = write_plot([validated], tmp_path / "chart.svg", chart)
    root = ElementTree.fromstring((tmp_path / "chart.svg").read_text())
    assert root.tag.endswith("svg")
    assert made["bytes"] == (tmp_path / "chart.svg").stat().st_size
    assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) > 10


def test_png_is_a_png(validated, tmp_path):
    write_plot([validated], tmp_path / "chart.png", "prediction")
    assert (tmp_path / "chart.png").read_bytes().startswith(PNG)


def test_change_takes_two_tables_and_names_in_it_are_text(validated, hostile, tmp_path):
    write_plot([validated, hostile], tmp_path / "change.svg", "change")
    text = (tmp_path / "change.svg").read_text()
    ElementTree.fromstring(text)
    assert not re.search("<(script|img|a|foreignObject)[ >]", text)


@pytest.mark.parametrize(
    ("count", "out", "chart", "words"),
    [
        (1, "chart.pdf", "drift", "must end in .png or .svg"),
        (1, "chart.svg", "pie", "chart 'pie' is unknown; choose of latency-flops"),
        (1, "chart.svg", "change", "takes two tables"),
        (2, "chart.svg", "drift", "takes one table"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(validated, tmp_path, count, out, chart, words):
    with pytest.raises(LutError, match=words):
        write_plot([validated] * count, tmp_path / out, chart)


def test_chart_without_data_is_an_error_that_says_why(large, tmp_path):
    with pytest.raises(LutError, match="has no data for chart prediction: no network was measured"):
        write_plot([large], tmp_path / "chart.svg", "prediction")
    assert list(tmp_path.iterdir()) == []
