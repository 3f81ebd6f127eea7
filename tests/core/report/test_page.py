"""What a report's file holds, before any browser reads it."""

import hashlib
import json
import re
from base64 import b64encode
from html.parser import HTMLParser

import pytest

from hwprof.errors import BackendUnavailable, LutError
from hwprof.lut import load_lut
from hwprof.report.page import write_report
from hwprof.report.script import vega_bundle

TAGS = {
    "html", "head", "meta", "link", "title", "style", "body", "a", "header", "h1", "span", "bdi", "p",
    "time", "nav", "ul", "li", "main", "noscript", "section", "h2", "div", "table", "caption", "thead",
    "tr", "th", "tbody", "td", "figure", "h3", "figcaption", "details", "summary", "form", "label",
    "input", "button", "footer", "script", "code",
}  # fmt: skip


class Tags(HTMLParser):
    """Every tag of a page with its attributes, and the content of scripts and styles."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.raw = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        if self.cdata_elem in ("script", "style"):
            self.raw.append((self.cdata_elem, self.tags[-1][1], data))


@pytest.fixture(scope="module")
def two(pages):
    return pages.two.read_text()


def test_nothing_of_a_table_becomes_a_tag_or_an_attribute_that_runs(two):
    for tag, attributes in Tags(two).tags:
        assert tag in TAGS, tag
        assert not any(name.startswith("on") or name == "style" for name in attributes), (
            tag,
            attributes,
        )
        for name in ("href", "src"):
            assert attributes.get(name, "#").startswith(("#", "data:")), attributes


def test_policy_names_the_hash_of_each_script_and_style_and_nothing_else(two):
    found = Tags(two)
    (policy,) = (a["content"] for t, a in found.tags if a.get("http-equiv") == "Content-Security-Policy")
    hashes = {"script": set(), "style": set()}
    for tag, attributes, text in found.raw:
        if attributes.get("type") != "application/json":
            digest = hashlib.sha256(text.encode()).digest()
            hashes[tag].add(f"'sha256-{b64encode(digest).decode()}'")
    assert (len(hashes["script"]), len(hashes["style"])) == (2, 1)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert set(rules.pop("script-src").split()) == hashes["script"]
    assert set(rules.pop("style-src").split()) == hashes["style"]
    assert rules == {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'",
                     "form-action": "'none'"}  # fmt: skip


def test_bundle_cannot_end_its_own_script_element():
    assert not re.search("<!--|</script|<script", vega_bundle(), re.IGNORECASE)
    assert "\r" not in vega_bundle()


def data_of(path):
    (text,) = (text for _, a, text in Tags(path.read_text()).raw if a.get("type") == "application/json")
    return json.loads(text)


def column_of(data, name):
    stored = data["rows"]["values"][name]
    return stored if isinstance(stored, list) else [stored["values"][code] for code in stored["codes"]]


def test_page_lists_every_row_with_its_numbers(validated, pages):
    data = data_of(pages.one)
    table = load_lut(validated)
    there = dict(zip(column_of(data, "op_id"), column_of(data, "latency_ms"), strict=True))
    rows = table.table.to_pylist()
    assert there == pytest.approx({row["op_id"]: row["latency_ms"] for row in rows}, rel=1e-5)
    flops = dict(zip(column_of(data, "op_id"), column_of(data, "flops"), strict=True))
    assert flops == {row["op_id"]: row["flops"] for row in rows}


def test_rows_beyond_the_limit_are_a_sample_that_keeps_the_surprising_ones(large, tmp_path):
    made = write_report([large], tmp_path / "page.html", most_rows=100)
    assert (made["rows"], made["rows_of_tables"]) == (100, 10_000)
    text = (tmp_path / "page.html").read_text()
    assert "100 of 10,000 rows: the most surprising ones and a random sample" in text
    linked = set(re.findall('<a href="#([0-9a-f]{20})">', text))
    assert linked
    assert linked <= set(column_of(data_of(tmp_path / "page.html"), "op_id"))


def test_chart_without_data_says_why_and_the_page_is_made(validated, tmp_path, copy):
    path = copy(validated)
    path.with_name("monday.visits.parquet").unlink()
    made = write_report([path], tmp_path / "page.html")
    assert set(made["absent"]) == {"drift-0"}
    assert "which alone tell the time of a number" in (tmp_path / "page.html").read_text()
    assert "prediction-0" in made["charts"]


def test_tables_with_nothing_in_common_stand_side_by_side_uncompared(validated, large, tmp_path):
    made = write_report([validated, large], tmp_path / "page.html")
    assert "change" not in made["charts"]
    assert "have no row in common" in (tmp_path / "page.html").read_text()
    assert {"heatmap-0", "heatmap-1"} <= set(made["charts"])


def test_two_tables_of_one_name_are_told_apart(validated, tmp_path, copy):
    write_report([validated, copy(validated)], tmp_path / "page.html")
    assert set(column_of(data_of(tmp_path / "page.html"), "table")) == {
        "1: monday.parquet",
        "2: monday.parquet",
    }


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("page.parquet", "must end in .html"),
        ("no/page.html", "does not exist"),
        ("sub.html", "a folder"),
    ],
)
def test_page_that_cannot_be_written_is_one_line(validated, tmp_path, out, words):
    (tmp_path / "sub.html").mkdir()
    with pytest.raises(LutError, match=words):
        write_report([validated], tmp_path / out)


def test_table_is_never_overwritten_by_its_page(validated, tmp_path):
    (tmp_path / "page.html").write_bytes(validated.read_bytes())
    with pytest.raises(LutError, match="is a table that is read"):
        write_report([tmp_path / "page.html"], tmp_path / "page.html")


def test_unknown_environment_names_those_there_are(validated, tmp_path):
    with pytest.raises(LutError, match=next(iter(load_lut(validated).environments))):
        write_report([validated], tmp_path / "page.html", ["none"])


def test_missing_library_names_the_extra(validated, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "vl_convert", None)
    with pytest.raises(BackendUnavailable, match=re.escape("pip install 'hwprof[report]'")):
        write_report([validated], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
