"""Loading: every wrong file is one line that says what it is and what to do."""

from __future__ import annotations

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.errors import LutError
from hwprof.lut import COLUMNS, load_lut, verify_lut, visits_path_of, write_lut


def rewrite(path, change_table=lambda t: t, **metadata):
    """Write the file again with another table or metadata; None removes a key."""
    table = change_table(pq.ParquetFile(path).read())
    stored = pq.read_metadata(path).metadata
    text = {k.decode(): v for k, v in stored.items() if k.startswith(b"hwprof.")}
    text |= {f"hwprof.{key}": value for key, value in metadata.items()}
    with pq.ParquetWriter(path, table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({k: v for k, v in text.items() if v is not None})


def refusal(path) -> str:
    with pytest.raises(LutError) as caught:
        load_lut(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_missing_file_says_how_to_build_it(tmp_path):
    assert "does not exist" in refusal(tmp_path / "no.parquet")
    assert "hwprof build-lut" in refusal(tmp_path / "no.parquet")


def test_a_folder_is_named_as_one(tmp_path):
    assert "is a folder" in refusal(tmp_path)


def test_text_and_empty_files_are_no_parquet(tmp_path):
    file = tmp_path / "t.parquet"
    file.write_text("label,latency\n")
    assert "is no Parquet file" in refusal(file)
    file.write_bytes(b"")
    assert "is empty" in refusal(file)


def test_parquet_of_another_kind_is_named_as_such(tmp_path):
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [1]}), file)
    assert "another kind (it has no hwprof metadata)" in refusal(file)


def test_the_visits_file_is_no_table(lut):
    assert "not a table" in refusal(visits_path_of(lut.path))


def test_a_newer_schema_says_found_supported_and_upgrade(lut):
    rewrite(lut.path, schema_version="2")
    assert refusal(lut.path).endswith("has schema 2, this hwprof reads schema 1; upgrade hwprof")


def test_a_newer_schema_with_other_columns_still_says_upgrade(lut):
    rewrite(lut.path, lambda t: t.drop_columns(["kind"]), schema_version="9", file_kind=None)
    assert "upgrade hwprof" in refusal(lut.path)


@pytest.mark.parametrize("version", ['"one"', "0", "null"])
def test_a_version_that_is_none_is_refused(lut, version):
    rewrite(lut.path, schema_version=version)
    assert "schema_version" in refusal(lut.path)


def test_missing_columns_are_named(lut):
    rewrite(lut.path, lambda t: t.drop_columns(["latency_ms", "state"]))
    assert "lacks the columns latency_ms, state" in refusal(lut.path)


def test_unknown_columns_are_named(lut):
    rewrite(lut.path, lambda t: t.append_column("mine", pa.array([1] * len(t))))
    assert "does not know: mine" in refusal(lut.path)


def test_a_column_of_another_type_is_named(lut):
    def as_text(table):
        place = table.column_names.index("latency_ms")
        return table.set_column(place, "latency_ms", table.column("latency_ms").cast(pa.string()))

    rewrite(lut.path, as_text)
    assert "column latency_ms is string, schema 1 says double" in refusal(lut.path)


def test_metadata_that_is_no_json_is_named(lut):
    rewrite(lut.path, environments="{oops")
    assert "hwprof.environments" in refusal(lut.path)
    assert "is no JSON" in refusal(lut.path)


def test_metadata_that_is_missing_is_named(lut):
    rewrite(lut.path, content_hash=None)
    assert "lacks the metadata hwprof.content_hash" in refusal(lut.path)


def test_environments_must_be_an_object(lut):
    rewrite(lut.path, environments=json.dumps(["a"]))
    assert 'environments: ["a"] is not a JSON object' in refusal(lut.path)


def test_visits_of_another_table_are_refused(save, rows, make, lut):
    other = save(rows[:1], name="other.parquet", visits=make.visits(rows[0]))
    shutil.copy(visits_path_of(other.path), visits_path_of(lut.path))
    with pytest.raises(LutError, match="visits of another table"):
        _ = load_lut(lut.path).visits


def test_missing_visits_are_an_error_when_asked_for_and_only_then(lut):
    visits_path_of(lut.path).unlink()
    assert len(load_lut(lut.path).table) == 6
    with pytest.raises(LutError, match=r"lut.visits.parquet does not exist"):
        _ = load_lut(lut.path).visits


def test_a_table_loaded_before_it_is_replaced_stays_what_it_was(lut, save, make):
    save([make.row(make.ops[0], 77.0)])
    assert lut.latency_ms(make.ops[0]) == 1.0
    assert load_lut(lut.path).latency_ms(make.ops[0]) == 77.0


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 0.9999))
def test_a_table_cut_off_anywhere_is_refused(small, tmp_path_factory, share):
    lut_bytes = small.read_bytes()
    file = tmp_path_factory.mktemp("cut") / "t.parquet"
    file.write_bytes(lut_bytes[: int(share * len(lut_bytes))])
    assert any(word in refusal(file) for word in ("cut off", "empty", "no Parquet"))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_flipped_byte_is_refused_or_changes_nothing(small, tmp_path_factory, data):
    lut_bytes = small.read_bytes()
    place = data.draw(st.integers(0, len(lut_bytes) - 1))
    flip = data.draw(st.integers(1, 255))
    folder = tmp_path_factory.mktemp("flip")
    (folder / "whole.parquet").write_bytes(lut_bytes)
    damaged = bytearray(lut_bytes)
    damaged[place] ^= flip
    (folder / "damaged.parquet").write_bytes(damaged)
    try:
        verify_lut(folder / "damaged.parquet")
    except LutError:
        return
    assert load_lut(folder / "damaged.parquet").table.equals(load_lut(folder / "whole.parquet").table)


@pytest.fixture(scope="module")
def small(make, tmp_path_factory):
    """A table for tests that draw examples."""
    path = tmp_path_factory.mktemp("bytes") / "lut.parquet"
    rows = [make.row(op, float(i)) for i, op in enumerate(make.ops, start=1)]
    write_lut(path, rows, metadata=make.metadata)
    return path


def test_columns_are_read_when_first_used(lut, monkeypatch):
    fresh = load_lut(lut.path)
    asked = []
    real = fresh._read
    monkeypatch.setattr(fresh, "_read", lambda names: asked.extend(names) or real(names))
    fresh.latencies_ms(fresh.columns(["op_id"]).column(0).to_pylist())
    assert "op_json" not in asked
    assert sorted(asked) == sorted(set(asked))
    assert fresh.table.column_names == [column.name for column in COLUMNS]


def test_a_table_from_before_there_was_any_validation_is_read_as_not_validated(lut):
    rewrite(lut.path, validation=None)
    again = load_lut(lut.path)
    assert again.metadata["validation"] is None
    assert again.summary()["validated_error"] == "uncalibrated"
