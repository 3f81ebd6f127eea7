"""Index entries of strangers: one line, and nothing that they name is read or written."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.cli.lut import lut as command
from hwprof.errors import LutError
from hwprof.lut.places import open_place
from hwprof.lut.registry import Entry, Registry, list_tables, push, registry_to_cache
from hwprof.lut.registry.entry import parse_entry

pytestmark = pytest.mark.usefixtures("home")
SHA = "ab" * 32


@pytest.fixture
def folder(tmp_path, lut):
    """A registry with one good table under each of two names."""
    place = tmp_path / "registry"
    push(str(lut.path), str(place), "good")
    push(str(lut.path), str(place), "phone")
    return place


@pytest.fixture
def entry_file(folder):
    (path,) = (folder / "entries" / "phone").iterdir()
    return path


def files_of(*folders):
    return {
        os.path.join(place, name)
        for folder in folders
        for place, _, names in os.walk(folder)
        for name in names
    }


def outside(told):
    told["table"]["sha256"] = "../../../etc/passwd"


def absolute(told):
    told["table"]["sha256"] = "/etc/passwd"


def url(told):
    told["visits"]["sha256"] = "https://example.org/x"


def other_name(told):
    told["name"] = "../good"


def other_hash(told):
    told["table"]["sha256"] = SHA


def huge_file(told):
    told["table"]["bytes"] = 1 << 60


def wrong_size(told):
    told["table"]["bytes"] += 1


def no_size(told):
    told["table"]["bytes"] = -1


def true_size(told):
    told["table"]["bytes"] = True


def text_size(told):
    told["table"]["bytes"] = "7"


def list_for_text(told):
    told["licence"] = ["MIT"]


def long_text(told):
    told["environments"] = ["x" * 501]


def long_list(told):
    told["environments"] = ["x"] * 1001


def future(told):
    told["pushed_at"] = (datetime.now(UTC) + timedelta(days=2)).isoformat()


def before_all_dates(told):
    told["pushed_at"] = "0001-01-01T00:00:00+23:59"


def no_zone(told):
    told["pushed_at"] = "2026-01-01T00:00:00"


def no_date(told):
    told["pushed_at"] = 7


def newer(told):
    told["hwprof_registry"] = 2


def no_format(told):
    del told["hwprof_registry"]


def lacking(told):
    del told["table"]


def other_content(told):
    told["table"]["content_hash"] = SHA


def other_visits(told):
    told["visits"]["sha256"] = told["table"]["sha256"]
    told["visits"]["bytes"] = told["table"]["bytes"]


WRONG = [
    outside, absolute, url, other_name, other_hash, huge_file, wrong_size, no_size, true_size, text_size,
    list_for_text, long_text, long_list, future, before_all_dates, no_zone, no_date, newer, no_format,
    lacking, other_content, other_visits,
]  # fmt: skip


@pytest.mark.parametrize("change", WRONG)
def test_a_lying_entry_is_one_line_and_nothing_is_written(folder, entry_file, home, change):
    told = json.loads(entry_file.read_bytes())
    change(told)
    entry_file.write_text(json.dumps(told))
    before = files_of(folder.parent)
    with pytest.raises(LutError) as caught:
        registry_to_cache(f"{folder}/phone")
    assert "\n" not in str(caught.value)
    assert {name for name in files_of(folder.parent) - before if "/partial/" not in name} == set()
    assert registry_to_cache(f"{folder}/good").is_file()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"no json", b"[]", b"null", b"7", b'{"hwprof_registry": "1"}', b"\xff\xfe", b"[" * 60_000,
        b'{"a":' * 10_000, b" " * (1 << 16) + b"{}",
    ],
)  # fmt: skip
def test_what_is_no_entry_is_one_line_and_named_by_list(folder, entry_file, data):
    entry_file.write_bytes(data)
    with pytest.raises(LutError) as caught:
        registry_to_cache(f"{folder}/phone")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    listing = list_tables(str(folder))
    assert [entry.name for entry in listing.entries] == ["good"]
    assert len(listing.refused) == 1
    result = CliRunner().invoke(command, ["list", str(folder)])
    assert result.exit_code == 1
    assert "good" in result.stdout
    assert result.stderr.startswith("refused: ")
    assert result.stderr.count("\n") == 1


def test_a_file_of_another_name_in_the_index_is_refused(folder, entry_file):
    (entry_file.parent / "latest.json").write_text("{}")
    with pytest.raises(LutError, match=r"latest\.json is no index entry"):
        registry_to_cache(f"{folder}/phone")


@pytest.mark.parametrize("what", ["entry", "folder", "object", "objects"])
def test_links_out_of_the_folder_are_not_followed(folder, entry_file, tmp_path, lut, what):
    sha256 = entry_file.stem
    stray = tmp_path / "outside"
    place = {
        "entry": entry_file,
        "folder": entry_file.parent,
        "object": folder / "objects" / f"{sha256}.parquet",
        "objects": folder / "objects",
    }[what]
    place.rename(stray)
    place.symlink_to(stray)
    with pytest.raises(LutError, match="is a symbolic link, which may not be here"):
        registry_to_cache(f"{folder}/phone")


def test_a_pipe_for_an_object_does_not_hang(folder, entry_file):
    place = folder / "objects" / f"{entry_file.stem}.parquet"
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(LutError, match="is no regular file"):
        registry_to_cache(f"{folder}/phone")


@pytest.mark.parametrize("place", [0, 100, -10])
def test_an_object_with_a_changed_byte_is_refused_and_not_kept(folder, entry_file, home, place):
    path = folder / "objects" / f"{entry_file.stem}.parquet"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(LutError, match="is damaged: its sha256 is"):
        registry_to_cache(f"{folder}/phone")
    assert not (home / "cache" / "tables").exists()
    assert files_of(home / "cache" / "partial") == set()


def test_an_object_that_is_gone_is_told(folder, entry_file):
    (folder / "objects" / f"{entry_file.stem}.parquet").unlink()
    with pytest.raises(LutError, match="is not there, though the index names it; push that table again"):
        registry_to_cache(f"{folder}/phone")


def test_an_object_that_is_no_table_is_refused_though_its_hash_fits(folder, tmp_path):
    import hashlib

    data = b"#!/bin/sh\necho executed\n"
    sha256 = hashlib.sha256(data).hexdigest()
    (folder / "objects" / f"{sha256}.parquet").write_bytes(data)
    (good,) = (folder / "entries" / "phone").iterdir()
    told = json.loads(good.read_bytes())
    told["table"] |= {"sha256": sha256, "bytes": len(data)}
    told["visits"] = None
    good.with_name(f"{sha256}.json").write_text(json.dumps(told))
    with pytest.raises(LutError, match=r"/phone is no Parquet file"):
        registry_to_cache(f"{folder}/phone@{sha256[:12]}")


def test_text_of_an_entry_cannot_steer_the_terminal(folder, entry_file):
    told = json.loads(entry_file.read_bytes())
    told["environments"] = ["\x1b[2Jphone\r\n"]
    entry_file.write_text(json.dumps(told))
    (line,) = list_tables(str(folder)).refused
    assert "control character U+001B" in line
    assert line.isprintable()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_file_name_in_the_index_once_steered_the_terminal(folder, entry_file, kind):
    strange = entry_file.with_name("evil\x1b[31m\udce9")
    if kind == "file":
        strange.touch()
        outcome = CliRunner().invoke(command, ["list", str(folder)])
        assert outcome.stderr.count("\n") == 1
        assert outcome.stderr.strip().isprintable()
    else:
        strange.symlink_to(entry_file)
    with pytest.raises(LutError, match=r"evil\\x1b\[31m\\udce9 is ") as caught:
        registry_to_cache(f"{folder}/phone")
    assert str(caught.value).isprintable()


def test_entries_of_a_name_once_took_any_amount_of_memory(folder, entry_file, monkeypatch):
    size = len(entry_file.read_bytes())
    monkeypatch.setattr("hwprof.lut.registry.registry.MOST_INDEX_BYTES", 2 * size + 20)
    assert len(list_tables(str(folder)).entries) == 2  # "good" and "phone" together
    told = json.loads(entry_file.read_bytes())
    told["table"]["sha256"] = SHA
    entry_file.with_name(f"{SHA}.json").write_text(json.dumps(told, indent=1))
    assert len(Registry(open_place(str(folder))).entries("phone").entries) == 2
    with pytest.raises(LutError, match="has more than 0 MiB of index entries; remove those"):
        list_tables(str(folder))
    for number in range(40):
        (entry_file.parent / f"stray{number}").touch()
    with pytest.raises(LutError, match="has more than 0 MiB of index entries; remove those"):
        registry_to_cache(f"{folder}/phone")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [*Entry.__dataclass_fields__, "hwprof_registry"]


@settings(max_examples=200, deadline=None)
@given(changes=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4))
def test_any_value_in_any_field_is_an_entry_or_one_line(changes):
    file = {"sha256": SHA, "bytes": 1, "content_hash": SHA}
    told = {
        "hwprof_registry": 1, "name": "x", "pushed_at": "2026-01-01T00:00:00+00:00", "table": file,
        "visits": None, "rows": 1, "schema_version": 1, "spaces": [], "environments": [],
        "licence": None, "hwprof_version": "1", **changes,
    }  # fmt: skip
    try:
        entry = parse_entry(json.dumps(told).encode(), "x", f"{SHA}.json")
    except LutError:
        return
    assert parse_entry(entry.to_bytes(), "x", f"{SHA}.json") == entry


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_one_line(data):
    with pytest.raises(LutError):
        parse_entry(data, "x", f"{SHA}.json")
