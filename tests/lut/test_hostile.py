"""Tables of strangers: a file that lies is a LutError of one line, before it costs memory or time."""

from __future__ import annotations

import ast
import importlib
import json
import os
import pickle
import sys
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hwprof.lut
from hwprof.cli.lut import _info_lines
from hwprof.errors import HwprofError, LutError
from hwprof.lut import load_lut, visits_path_of
from hwprof.lut.guard.thrift import BINARY, I32, I64, LIST, STRUCT, Field, Items
from hwprof.lut.reading import open_table, open_visits
from hwprof.lut.trust.cite import cite
from hwprof.lut.trust.verify import verify

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FIELD = SimpleNamespace(
    schema=2, rows=3, groups=4, pairs=5, columns=1, group_rows=3, meta=3, kind=1, codec=4, values=5,
    stored=7, start=9, statistics=12, sizes=16, most=5, least=6,
)  # fmt: skip
CLEAR_SCREEN = "\x1b[2J"


@pytest.fixture(scope="module")
def hostile():
    """`benchmarks/hostile_tables.py`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("hostile_tables")
        del sys.modules["hostile_tables"]


@pytest.fixture
def plain(hostile, lut):
    """The parts of a table without compression, its visits beside it, and how to save it."""
    table, told = pq.read_table(lut.path), pq.read_metadata(lut.path).metadata
    file = BytesIO()
    with pq.ParquetWriter(
        file, table.schema, compression="none", store_schema=False, use_dictionary=True
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(
            {key.decode(): value for key, value in told.items() if key.startswith(b"hwprof.")}
        )
    parts = hostile.take_apart(file.getvalue())
    names = [element[4].value.decode() for element in parts.footer[FIELD.schema].value.values[1:]]

    def save(changed):
        data = changed if isinstance(changed, bytes) else hostile.put_together(changed)
        lut.path.write_bytes(data)
        return lut.path

    return SimpleNamespace(parts=parts, save=save, path=lut.path, place=names.index)


def changed_chunk(parts, place, change, *, whole=False):
    """The parts with a change in the facts of one column (`whole`: of its ColumnChunk)."""
    group = dict(parts.footer[FIELD.groups].value.values[0])
    chunks = list(group[FIELD.columns].value.values)
    chunk = dict(chunks[place])
    if whole:
        change(chunk)
    else:
        meta = dict(chunk[FIELD.meta].value)
        change(meta)
        chunk[FIELD.meta] = Field(STRUCT, meta)
    chunks[place] = chunk
    group[FIELD.columns] = Field(LIST, Items(STRUCT, tuple(chunks)))
    return with_groups(parts, [group])


def with_groups(parts, groups):
    footer = {**parts.footer, FIELD.groups: Field(LIST, Items(STRUCT, tuple(groups)))}
    return type(parts)(footer, parts.columns)


def table_of(path):
    return load_lut(path).table


def visits_of(path):
    stored = open_visits(path)
    return stored.read(stored.facts.schema.to_arrow_schema().names)


def refusal(path, visits=False):
    """The one line for a file that is not read."""
    with pytest.raises(LutError) as caught:
        (visits_of if visits else table_of)(path)
    line = str(caught.value)
    assert line.isprintable()
    assert len(line) < 1000
    assert str(path) in line
    return line


@pytest.fixture
def no_decoding(monkeypatch):
    """Arrow may not decode a page."""

    def refuse(*_, **__):
        raise AssertionError("a page was decoded")

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", refuse)
    monkeypatch.setattr(pq.ParquetFile, "read", refuse)


def test_the_plain_copy_is_read(plain, lut):
    whole = lut.table
    assert load_lut(plain.save(plain.parts)).table.equals(whole)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "lut.parquet")
    assert "no regular file" in refusal(tmp_path / "lut.parquet")


@pytest.mark.parametrize("length", [0, 1, 1 << 20, (1 << 32) - 1])
def test_a_footer_of_another_length_is_refused(lut, length):
    data = lut.path.read_bytes()
    lut.path.write_bytes(data[:-8] + length.to_bytes(4, "little") + b"PAR1")
    assert "is cut off or damaged" in refusal(lut.path)


@pytest.mark.parametrize("count", [0, 5, 7, -1, 1 << 31, (1 << 63) - 1])
def test_a_footer_that_lies_about_the_rows_is_refused(plain, count, no_decoding):
    footer = {**plain.parts.footer, FIELD.rows: Field(I64, count)}
    lie = type(plain.parts)(footer, plain.parts.columns)
    assert "row" in refusal(plain.save(lie))


@pytest.mark.parametrize("count", [5, 7, -6, 1 << 40])
def test_footer_and_row_group_that_lie_about_the_rows_alike_are_refused(plain, count, no_decoding):
    group = {
        **plain.parts.footer[FIELD.groups].value.values[0],
        FIELD.group_rows: Field(I64, count),
    }
    lie = with_groups(plain.parts, [group])
    lie.footer[FIELD.rows] = Field(I64, count)
    refusal(plain.save(lie))


def test_a_billion_rows_are_refused_before_room_is_made_for_them(hostile, plain, no_decoding):
    """Footer, row group, columns and pages all say so."""
    rows = 1 << 30
    parts = plain.parts
    for place in range(len(parts.columns)):
        parts = changed_chunk(parts, place, lambda meta: meta.update({FIELD.values: Field(I64, rows)}))
        pages = []
        for page in parts.columns[place]:
            header = dict(page.header)
            if 5 in header:
                header[5] = Field(STRUCT, {**header[5].value, 1: Field(I32, rows)})
            pages.append(hostile.Page(header, page.body))
        parts = hostile.with_pages(parts, place, pages)
    group = {**parts.footer[FIELD.groups].value.values[0], FIELD.group_rows: Field(I64, rows)}
    lie = with_groups(parts, [group])
    lie.footer[FIELD.rows] = Field(I64, rows)
    assert "HWPROF_MAX_READ_GIB=" in refusal(plain.save(lie))


def test_a_page_that_unpacks_to_a_gigabyte_is_refused_before_it_is_unpacked(hostile, plain, no_decoding):
    place = plain.place("reason")
    page = plain.parts.columns[place][-1]
    bomb = hostile.Page({**page.header, 2: Field(I32, 1 << 30)}, page.body)
    parts = hostile.with_pages(plain.parts, place, [*plain.parts.columns[place][:-1], bomb])
    assert "HWPROF_MAX_READ_GIB=2" in refusal(plain.save(parts))


def test_the_limit_can_be_moved(lut, monkeypatch):
    monkeypatch.setenv("HWPROF_MAX_READ_GIB", "1e-6")
    assert "HWPROF_MAX_READ_GIB=1" in refusal(lut.path)
    monkeypatch.setenv("HWPROF_MAX_READ_GIB", "1")
    assert len(load_lut(lut.path).table) == 6
    monkeypatch.setenv("HWPROF_MAX_READ_GIB", "much")
    with pytest.raises(LutError, match="no number of GiB"):
        load_lut(lut.path)


@pytest.mark.parametrize("column", ["reason", "tuning"])
def test_a_long_text_that_a_dictionary_repeats_is_refused_before_it_is_spelled_out(
    make, tmp_path, column
):
    """20,000 rows of one text of 60 kB: 1.2 GB in a file of a few kB."""
    from hwprof.lut import rows_to_table, write_lut

    rows = rows_to_table([make.row(make.ops[1])])
    many = rows.take(pa.array([0] * 20_000))
    ids = pa.array([f"{number:020x}" for number in range(20_000)])
    many = many.set_column(0, "op_id", ids)
    place = many.column_names.index(column)
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), pa.array(["x" * 60_000]))
    write_lut(tmp_path / "lut.parquet", rows, metadata=make.metadata)
    told = pq.read_metadata(tmp_path / "lut.parquet").metadata
    many = many.set_column(place, column, text)
    with pq.ParquetWriter(tmp_path / "lut.parquet", many.schema, store_schema=False) as writer:
        writer.write_table(many)
        writer.add_key_value_metadata(
            {key.decode(): value for key, value in told.items() if key.startswith(b"hwprof.")}
        )
    assert (tmp_path / "lut.parquet").stat().st_size < 1 << 20
    assert "HWPROF_MAX_READ_GIB=" in refusal(tmp_path / "lut.parquet")


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_text_whose_length_cannot_be_told_beforehand_is_refused(lut, encoding):
    table, told = _stored(lut.path)
    with pq.ParquetWriter(
        lut.path, table.schema, use_dictionary=False, store_schema=False,
        column_encoding={"label": encoding},
    ) as writer:  # fmt: skip
        writer.write_table(table)
        writer.add_key_value_metadata(told)
    assert "column label: encoding" in refusal(lut.path)


def test_a_schema_nested_100_000_deep_is_refused_in_python(plain, monkeypatch):
    """Arrow before 26 runs out of stack."""
    monkeypatch.setattr(pq, "ParquetFile", None)
    group = {3: Field(I32, 0), 4: Field(BINARY, b"g"), 5: Field(I32, 1)}
    leaf = {1: Field(I32, 1), 3: Field(I32, 0), 4: Field(BINARY, b"x")}
    root = plain.parts.footer[FIELD.schema].value.values[0]
    elements = ({**root, 5: Field(I32, 1)}, *[group] * 100_000, leaf)
    footer = {
        **plain.parts.footer,
        FIELD.schema: Field(LIST, Items(STRUCT, elements)),
        FIELD.rows: Field(I64, 0),
        FIELD.groups: Field(LIST, Items(STRUCT, ())),
    }
    assert "is nested" in refusal(plain.save(type(plain.parts)(footer, [])))


def test_nested_columns_are_refused(lut):
    table, told = _stored(lut.path)
    nested = table.append_column("more", pa.array([{"a": [1]}] * len(table)))
    with pq.ParquetWriter(lut.path, nested.schema, store_schema=False) as writer:
        writer.write_table(nested)
        writer.add_key_value_metadata(told)
    assert "nested" in refusal(lut.path)


def test_a_column_that_is_there_twice_is_named(lut):
    table, told = _stored(lut.path)
    twice = pa.Table.from_arrays([*table.columns, table.column("label")], [*table.column_names, "label"])
    with pq.ParquetWriter(lut.path, twice.schema, store_schema=False) as writer:
        writer.write_table(twice)
        writer.add_key_value_metadata(told)
    assert "the column label twice" in refusal(lut.path)


@pytest.mark.parametrize(
    ("number", "value"), [(FIELD.start, 1 << 40), (FIELD.start, -5), (FIELD.stored, 1 << 40)]
)
def test_pages_outside_the_file_are_refused(hostile, plain, number, value, no_decoding):
    def lie(meta):
        meta.pop(11, None)  # the dictionary's place
        meta[number] = Field(I64, value)

    whole = hostile.put_together(plain.parts)
    lying = changed_chunk(hostile.take_apart(whole), plain.place("label"), lie)
    end = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    path = plain.save(whole[:end] + hostile.end_of(lying.footer))
    assert "column label: its pages lie outside the file" in refusal(path)


def test_columns_in_another_file_are_refused(plain, no_decoding):
    def elsewhere(chunk):
        chunk[1] = Field(BINARY, b"../../etc/passwd")

    def encrypted(chunk):
        chunk[8] = Field(STRUCT, {1: Field(STRUCT, {})})

    for change in (elsewhere, encrypted):
        lie = changed_chunk(plain.parts, 3, lambda c, f=change: _sorted(c, f), whole=True)
        assert "lies in another file" in refusal(plain.save(lie))


def _sorted(fields, change):
    change(fields)
    for number in sorted(fields):
        fields[number] = fields.pop(number)


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("threads", {FIELD.statistics: Field(STRUCT, {5: Field(BINARY, b"\1\2")})}),
        ("kind", {FIELD.statistics: Field(STRUCT, {5: Field(BINARY, b"\xff")})}),
        ("threads", {FIELD.sizes: Field(STRUCT, {3: Field(LIST, Items(I64, (1, 2, 3)))})}),
        ("threads", {FIELD.sizes: Field(STRUCT, {1: Field(I64, 5)})}),
        ("height", {FIELD.sizes: Field(STRUCT, {2: Field(LIST, Items(I64, (1, 2)))})}),
        ("label", {FIELD.codec: Field(I32, -1)}),
        ("label", {FIELD.codec: Field(I32, 8)}),
    ],
)  # fmt: skip
def test_facts_that_end_the_process_when_python_asks_for_them_are_refused(plain, column, change):
    """`terminate called after throwing an instance of 'parquet::ParquetException'`"""
    lie = changed_chunk(plain.parts, plain.place(column), lambda meta: meta.update(change))
    refusal(plain.save(lie))


def test_a_dictionary_index_out_of_range_is_refused(hostile, plain):
    place = plain.place("kind")
    *dictionary, page = plain.parts.columns[place]
    assert len(dictionary) == 1
    # Bit width 8, a run of 6 times the index 200.
    body = bytes([8, 6 << 1, 200])
    header = {**page.header, 2: Field(I32, len(body)), 3: Field(I32, len(body))}
    header.pop(4, None)
    parts = hostile.with_pages(plain.parts, place, [*dictionary, hostile.Page(header, body)])
    assert "is cut off or damaged" in refusal(plain.save(parts))


def test_a_dictionary_of_more_values_than_bytes_is_refused(hostile, plain, no_decoding):
    place = plain.place("kind")
    dictionary, *pages = plain.parts.columns[place]
    header = {
        **dictionary.header,
        7: Field(STRUCT, {**dictionary.header[7].value, 1: Field(I32, 1 << 30)}),
    }
    parts = hostile.with_pages(plain.parts, place, [hostile.Page(header, dictionary.body), *pages])
    assert "a dictionary of 1073741824 values" in refusal(plain.save(parts))


def _stored(path):
    told = pq.read_metadata(path).metadata
    return pq.ParquetFile(path).read(), {
        key.decode(): value for key, value in told.items() if key.startswith(b"hwprof.")
    }


def replaced(path, column, values):
    """The file with other values in a column, which may be null then."""
    table, told = _stored(path)
    place = table.column_names.index(column)
    field = table.schema.field(column).with_nullable(True)
    table = table.set_column(place, field, pa.array(values, field.type))
    with pq.ParquetWriter(path, table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(told)


@pytest.mark.parametrize("column", ["op_id", "kind", "label", "reason", "space", "environment_id"])
@pytest.mark.parametrize("control", ["\x1b", "\n", "\x07", "\x9b", "\x7f", "\0"])
def test_what_steers_a_terminal_is_refused_and_not_shown(lut, column, control):
    replaced(lut.path, column, [f"a{control}[2J"] * 6)
    assert f"column {column}: control character U+{ord(control):04X} in 'a" in refusal(lut.path)


@pytest.mark.parametrize(
    ("column", "most"), [("label", 1 << 10), ("reason", 1 << 16), ("op_id", 1 << 10)]
)
def test_a_text_without_end_is_refused(lut, column, most):
    replaced(lut.path, column, ["x" * (most + 1)] * 6)
    assert f"column {column}: a text of {most + 1:,} bytes, {most:,} are allowed" in refusal(lut.path)


def test_text_of_other_scripts_is_read(lut):
    replaced(lut.path, "label", ["深度", "größer", "🙂", "µs", "\u00a0", "ok"])
    assert load_lut(lut.path).table.column("label").to_pylist()[0] == "深度"


def test_text_that_is_no_utf8_is_refused(hostile, plain):
    place = plain.place("label")
    pages = [
        hostile.Page(page.header, page.body.replace(b"conv", b"\xff\xfe\xfd\xfc"))
        for page in plain.parts.columns[place]
    ]
    refusal(plain.save(hostile.with_pages(plain.parts, place, pages)))


def test_dates_that_python_cannot_hold_are_refused(lut):
    replaced(lut.path, "started_at", [1 << 60] * 6)
    assert "column started_at: a date" in refusal(lut.path)


def test_numbers_that_are_not_exact_as_floats_are_refused(lut):
    replaced(lut.path, "flops", [1 << 62] * 6)
    assert "column flops: a number beyond 2^53" in refusal(lut.path)


@pytest.mark.parametrize("latency", [-1.0, 0.0, float("inf")])
def test_a_latency_that_is_none_is_never_looked_up(lut, make, latency):
    """`hwprof lut lint` reads such a table, to say what is wrong with it."""
    replaced(lut.path, "latency_ms", [latency, *[1.0] * 5])
    again = load_lut(lut.path)
    bad = again.table.column("op_id")[0].as_py()
    for look_up in (again.find, again.latency_ms, lambda op: again.latencies_ms([op], "p50_ms")):
        with pytest.raises(LutError, match="not above 0 and finite"):
            look_up(bad)
    good = again.table.column("op_id")[1].as_py()
    assert again.latency_ms(good) == 1.0
    assert not verify(lut.path).passed


KEYS = (
    "file_kind", "schema_version", "spaces", "environments", "composition", "validation", "licence",
    "title", "authors", "content_hash", "visits_hash", "created_at", "hwprof_version", "interval_level",
)  # fmt: skip
STRANGE = (
    b"", b"{", b"[" * 100_000, b'{"a":' * 100_000, b"NaN", b"-Infinity", b"1e999", b"9" * 5000,
    b'"\\ud800"', b'"\\u001b[2J"', b'{"\\u001b[2J": 1}', b'"' + b"x" * 5000 + b'"', b"\xff", b"[3]",
    b"-1",
    b"true", b"0.5", b'{"x": {"identity": {"device": 3}, "conditions": {}}}', b'[{"scope": 3}]',
    b'{"x": {"identity": {"core_kinds": 3}, "conditions": {}}}', b'["a", 3]', b'"0001-01-01T00:00:00"',
)  # fmt: skip


def answered_in_one_line(path):
    """Whether all that is done with a table's metadata can be shown, or is refused so that it can."""
    try:
        table = load_lut(path)
        lines = ["".join(line) for line in _info_lines(table.summary())]
        verify(path)
        lines += [cite(path).text(), repr(table)]
    except HwprofError as error:
        lines = [str(error)]
    return all(line.isprintable() and len(line) < 5000 for line in lines)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", STRANGE, ids=range(len(STRANGE)))
def test_metadata_that_no_table_has_are_refused_or_do_no_harm(hostile, small, key, value):
    parts, path = small
    path.write_bytes(hostile.put_together(hostile.with_metadata(parts, key, value)))
    assert answered_in_one_line(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_json_in_the_place_of_another_is_refused_or_does_no_harm(hostile, small, data):
    """Somewhere in the metadata of a calibrated, validated table."""
    parts, path = small
    key = data.draw(st.sampled_from(KEYS))
    pairs = {pair[1].value: pair[2].value for pair in parts.footer[FIELD.pairs].value.values}
    value = json.loads(pairs.get(f"hwprof.{key}".encode(), b"null"))

    def change(value):
        if isinstance(value, dict) and value and data.draw(st.booleans()):
            name = data.draw(st.sampled_from(sorted(value)))
            return {**value, name: change(value[name])}
        if isinstance(value, list) and value and data.draw(st.booleans()):
            return [change(value[0]), *value[1:]]
        return data.draw(json_values)

    text = json.dumps(change(value)).encode()
    path.write_bytes(hostile.put_together(hostile.with_metadata(parts, key, text)))
    assert answered_in_one_line(path)


@pytest.fixture(scope="module")
def small(hostile, make, tmp_path_factory):
    """A small table with all metadata, in parts, and a place to write others to."""
    from hwprof.lut import write_lut

    folder = tmp_path_factory.mktemp("small")
    scope = {"space": "tiny", "statistic": "floor", "environment_id": make.here, "batch": 1,
             "dtype": "float32", "cache": "warm"}  # fmt: skip
    fitted = {"scope": scope, "model": "factor", "coefficients": {"ops": 1.1}, "error": 0.01,
              "networks": ["a"], "fitted_at": "2026-11-21T08:00:00+00:00"}  # fmt: skip
    validated = {**scope, "networks": 20, "mean_error": 0.01, "within_1": 0.5, "within_2": 0.9,
                 "additive": True, "validated_at": "2026-11-21T09:00:00+00:00"}  # fmt: skip
    metadata = {
        **make.metadata,
        "composition": [fitted],
        "validation": [validated],
        "licence": "CC0-1.0",
    }
    write_lut(folder / "whole.parquet", [make.row(op) for op in make.ops], metadata=metadata)
    return hostile.take_apart((folder / "whole.parquet").read_bytes()), folder / "lut.parquet"


def test_a_key_that_is_there_twice_is_refused(plain):
    pairs = plain.parts.footer[FIELD.pairs].value.values
    plain.parts.footer[FIELD.pairs] = Field(LIST, Items(STRUCT, (*pairs, pairs[0])))
    assert "twice" in refusal(plain.save(plain.parts))


def test_visits_are_guarded_as_tables_are(lut):
    path = visits_path_of(lut.path)
    replaced(path, "device_throttle", [CLEAR_SCREEN] * 18)
    assert "column device_throttle: control character U+001B" in refusal(path, visits=True)
    with pytest.raises(LutError, match=r"U\+001B"):
        _ = load_lut(lut.path).visits


def test_a_pickle_that_another_reader_would_run_is_not_run(lut, tmp_path):
    """CVE-2023-47248: pyarrow before 14.0.1 ran what stood in a file's Arrow schema."""
    table, told = _stored(lut.path)

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trapped"),)

    payload = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(Trap()),
    }
    field = table.schema.field("label").with_metadata(payload)
    schema = table.schema.set(table.column_names.index("label"), field)
    schema = schema.with_metadata({b"pandas": b'{"index_columns": ["__import__(\'os\')"]}'})
    with pq.ParquetWriter(lut.path, schema) as writer:
        writer.write_table(table.cast(schema))
        writer.add_key_value_metadata(told)
    assert answered_in_one_line(lut.path)
    assert not (tmp_path / "trapped").exists()


def test_nothing_that_reads_tables_evaluates_text():
    """No eval, exec, compile or import by name of what stands in a file, and no YAML but safe YAML."""
    banned = {"eval", "exec", "compile", "__import__", "loads_pickle", "unsafe_load", "full_load"}
    for path in sorted(Path(hwprof.lut.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = node.func
                name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
                of = ast.unparse(called.value) if isinstance(called, ast.Attribute) else ""
                assert name not in banned or of == "re", f"{path}:{node.lineno}: {name}"


def test_the_oldest_and_the_last_date_are_read(lut):
    for year in (2, 9998):
        replaced(lut.path, "started_at", [datetime(year, 1, 1, tzinfo=UTC)] * 6)
        assert load_lut(lut.path).table.column("started_at")[0].as_py().year == year


def test_a_footer_of_megabytes_in_a_small_file_is_refused(plain, no_decoding):
    footer = {**plain.parts.footer, 6: Field(BINARY, b"x" * (3 << 20))}
    path = plain.save(type(plain.parts)(dict(sorted(footer.items())), plain.parts.columns))
    assert "HWPROF_MAX_READ_GIB" in refusal(path)


def test_a_table_can_be_read_a_few_rows_at_a_time(lut):
    stored = open_table(lut.path)
    batches = list(stored.batches(["op_id", "kind", "latency_ms"], 4))
    assert [len(batch) for batch in batches] == [4, 2]
    whole = stored.read(["op_id", "kind", "latency_ms"])
    assert pa.concat_tables(batches).unify_dictionaries().equals(whole.unify_dictionaries())


@pytest.mark.parametrize(
    "column", ["op_id", "environment_id", "cache", "kind", "label", "op_json", "state"]
)
def test_a_row_without_key_op_or_state_is_refused(lut, column):
    replaced(lut.path, column, [None, *lut.table.column(column).to_pylist()[1:]])
    assert f"column {column}: null in 1 rows" in refusal(lut.path)


def test_a_visit_without_a_time_is_refused(lut):
    path = visits_path_of(lut.path)
    replaced(path, "started_at", [None] * 18)
    assert "column started_at: null in 18 rows" in refusal(path, visits=True)
