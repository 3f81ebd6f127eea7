"""Files that explode, lie or are cut off are one line; others are read as what they say."""

import json
import math
import os

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hwprof.errors import LutError
from hwprof.lut.importing import guarded
from hwprof.lut.importing.guarded import (
    csv_rows,
    json_lines,
    parse_json,
    parse_yaml,
    plain,
    read_bytes,
    read_text,
    shown,
    text_lines,
)
from hwprof.lut.importing.prototext import parse_prototext

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=30,
)  # fmt: skip
LAUGHS = "a: &a [x, x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}]\n"
    for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@given(PLAIN)
def test_json_is_read_back_as_it_was_written(value):
    assert parse_json(json.dumps(value), "x") == value


@given(st.text(max_size=200))
def test_text_that_is_refused_is_no_json_of_ours(error_of, text):
    message = error_of(parse_json, text, "x")
    assert "\n" not in message
    if message:
        with pytest.raises((ValueError, AssertionError)):
            json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    else:
        assert parse_json(text, "x") == json.loads(text)


def _unique(pairs):
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def _refuse(name):
    raise ValueError(name)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 100_000, "nested deeper than 64"),
        ("[" * 100_000 + "]" * 100_000, "nested deeper than 64"),
        ('{"a":' * 100_000, "nested deeper than 64"),
        ('{"a": 1, "b": 2, "a": 3}', "'a' stands twice"),
        ("[NaN]", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ('["cut off', "no JSON: Unterminated"),
        ('"' + '\\"' * 1_000_000, "no JSON: Unterminated"),
        ("", "no JSON: Expecting value"),
        ("\x00", "no JSON: Expecting value"),
    ],
)
def test_hostile_json_is_one_line(text, why):
    with pytest.raises(LutError, match=why) as caught:
        parse_json(text, "strange.json")
    assert str(caught.value).startswith("strange.json")
    assert len(str(caught.value)) < 300


def test_brackets_in_strings_are_no_depth_and_no_values(monkeypatch):
    monkeypatch.setattr(guarded, "MAX_JSON_VALUES", 10)
    assert parse_json(json.dumps(['[{,\\"' * 1000]), "x") == ['[{,\\"' * 1000]
    with pytest.raises(LutError, match="more than 10 JSON values"):
        parse_json(json.dumps([1] * 20), "x")


@given(st.dictionaries(st.text("abc", min_size=1), st.floats(0.001, 1e6) | st.integers(0, 10**9)))
def test_yaml_of_numbers_is_read_as_pyyaml_reads_it(value):
    assert parse_yaml(yaml.safe_dump(value), "x") == (yaml.safe_load(yaml.safe_dump(value)) or {})


@given(st.text(max_size=300))
def test_any_text_is_yaml_or_one_line(error_of, text):
    assert "\n" not in error_of(parse_yaml, text, "x")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (LAUGHS, "x.yaml:1: YAML: anchors and aliases"),
        ("a: *b", "anchors and aliases"),
        ("a: !!python/object/apply:os.system [ls]", r"tags \(!\) are not taken"),
        ("!!set {a, b}", r"tags \(!\) are not taken"),
        ("[" * 1000, "nested deeper than 64"),
        ("- " * 1000 + "a", "nested deeper than 64"),
        ("a: 1\nb: 2\na: 3", "x.yaml:3: YAML: 'a' stands twice"),
        ("? [a]\n: 1", "a key must be"),
        ("a: 1\n---\nb: 2", "more than one document"),
        ("a: [1", "no YAML"),
        ('"\\U7fffffff"', "no YAML"),
        ("%YAML 9999999999.1\n---\na", "no YAML"),
    ],
)
def test_hostile_yaml_is_one_line(text, why):
    with pytest.raises(LutError, match=why):
        parse_yaml(text, "x.yaml")


def test_yaml_has_no_dates_octals_or_sexagesimals():
    text = "a: 2001-01-01\nb: 012\nc: 1:30\nd: 1_000\ne: '5'\nf: 5\ng: .5e3\nh: ~\ni: No"
    assert parse_yaml(text, "x") == {
        "a": "2001-01-01", "b": 12, "c": "1:30", "d": "1_000", "e": "5", "f": 5, "g": 500.0, "h": None,
        "i": "No",
    }  # fmt: skip


def test_yaml_values_are_counted(monkeypatch):
    monkeypatch.setattr(guarded, "MAX_YAML_VALUES", 10)
    with pytest.raises(LutError, match="more than 10 values"):
        parse_yaml(f"[{'1, ' * 20}]", "x")


def test_files_are_bounded_in_bytes_and_lines(write, tmp_path):
    path = write("a.txt", "x" * 1000)
    assert read_bytes(path, 1000) == b"x" * 1000
    with pytest.raises(LutError, match="larger than 999 bytes"):
        read_bytes(path, 999)
    with pytest.raises(LutError, match="a line of more than 100 bytes"):
        list(text_lines(path, longest=100))
    lines = write("b.txt", "ab\n" * 1000)
    with pytest.raises(LutError, match="larger than 2000 bytes"):
        list(text_lines(lines, most=2000))
    with pytest.raises(LutError, match="not UTF-8"):
        read_text(write("c.txt", b"\xff\xfe"))
    with pytest.raises(LutError, match="is a folder"):
        read_bytes(tmp_path)
    with pytest.raises(LutError, match="cannot be read: No such file"):
        read_bytes(tmp_path / "none")
    with pytest.raises(LutError, match="cannot be read"):
        read_bytes(tmp_path / "a\0b")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LutError, match="not a regular file"):
        read_bytes(tmp_path / "pipe")


def test_json_lines_are_read_one_by_one_with_their_numbers(write):
    path = write("a.json", '{"a": 1}\n\n[2]\n')
    assert list(json_lines(path)) == [(1, {"a": 1}), (3, [2])]
    with pytest.raises(LutError, match=r"b.json:2: no JSON"):
        list(json_lines(write("b.json", '{"a": 1}\n{"a"')))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("a," * 100_000, "more than 1000 columns"),
        ("a,b\n" + "," * 500_000, "more than 1000 columns"),
        ('a\n"never closed\nb', "a.csv:2: no CSV"),
        ("a" * 200_000, "field larger than field limit"),
        ("a" * (2 << 20), "a line of more than 1048576 bytes"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_hostile_csv_is_one_line(write, content, why):
    with pytest.raises(LutError, match=why):
        list(csv_rows(write("a.csv", content)))


def test_csv_cells_may_be_quoted_and_blank_lines_are_left_out(write):
    path = write("a.csv", '\ufeffa,"b, c"\n\n1,"say ""x"""\n')
    assert list(csv_rows(path)) == [(1, ["a", "b, c"]), (3, ["1", 'say "x"'])]


@given(st.text(max_size=400))
def test_a_name_is_one_printable_line(text):
    for made in (plain(text), shown(text)):
        assert made.isprintable()
        assert len(made) < 1800
    if text.isprintable() and text.strip() == text and 0 < len(text) <= 160:
        assert plain(text) == text


def test_protobuf_text_is_read_with_repeated_fields():
    text = 'a { b: 1 b: 2.5 c: "x\\"y" } # why\na { d: true e: SOME_WORD f: -3e2 }'
    assert parse_prototext(text, "x") == {
        "a": [{"b": [1, 2.5], "c": 'x"y'}, {"d": True, "e": "SOME_WORD", "f": -300.0}]
    }


@pytest.mark.parametrize(
    "text", ["a {", "}", "a: }", "a 1", '"a": 1', "a: 'x'", "a: " + "1" * 30, 'a: "x', "a { } }"]
)
def test_other_text_is_no_protobuf(text):
    with pytest.raises(LutError, match="x:1: no protobuf text"):
        parse_prototext(text, "x")


def test_protobuf_text_is_bounded():
    with pytest.raises(LutError, match="nested deeper than 16"):
        parse_prototext("a {" * 100_000, "x")


@given(st.text(max_size=200) | st.text('a1:{}"\\ \n#.-', max_size=60))
def test_any_text_is_protobuf_or_one_line(error_of, text):
    assert "\n" not in error_of(parse_prototext, text, "x")


def test_numbers_beyond_a_double_are_infinite_not_an_error():
    assert parse_json("[1e999]", "x") == [math.inf]
    for digits in (400, 5000):
        assert parse_json(f"[{'9' * digits}, -{'9' * digits}]", "x") == [math.inf, -math.inf]


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 10**30])
def test_whole_numbers_beyond_64_bits_are_doubles(number):
    (found,) = parse_json(f"[{number}]", "x")
    assert found == pytest.approx(number, rel=1e-15)
    assert isinstance(found, int) == (-(2**63) <= number < 2**63)
