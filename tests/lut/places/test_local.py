"""Tables at a URL: fetched once with their visits, kept, and asked for again only when told to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest

from hwprof.errors import LutError
from hwprof.lut import load_lut, write_lut
from hwprof.lut.places import copy_table, local_table, pull_to_cache, table_name

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def put(memory):
    """Copy a table and its visits to a URL."""

    def copy(lut, visits=True):
        files = fsspec.filesystem("memory")
        files.pipe_file("/shared/t.parquet", lut.path.read_bytes())
        if visits:
            visits = lut.path.with_suffix(".visits.parquet")
            files.pipe_file("/shared/t.visits.parquet", visits.read_bytes())
        return f"{memory}/t.parquet"

    return copy


@pytest.fixture
def other(save, make):
    """A table of other latencies."""
    rows = [make.row(op, 7.0) for op in make.ops]
    return save(rows, "other.parquet", [visit for row in rows for visit in make.visits(row)])


def take_away():
    fsspec.filesystem("memory").store.clear()


def test_a_local_path_is_itself_and_a_file_url_is_its_path(lut):
    assert local_table(lut.path) == lut.path
    assert local_table(str(lut.path)) == lut.path
    assert local_table(f"file://{lut.path}") == lut.path


def test_a_table_at_a_url_comes_with_its_visits_and_stays(lut, put, caplog):
    url = put(lut)
    fetched = load_lut(local_table(url))
    assert fetched.metadata["content_hash"] == lut.metadata["content_hash"]
    assert fetched.visits.num_rows == lut.visits.num_rows
    assert caplog.records == []
    take_away()
    assert local_table(url) == fetched.path
    assert f"using the copy of {url}" in caplog.text


def test_only_pull_asks_again_and_fetches_only_what_has_changed(lut, other, put, monkeypatch):
    url = put(lut)
    first = local_table(url)
    fetched = []
    monkeypatch.setattr(
        "hwprof.lut.places.local.fetched", lambda place, *rest: fetched.append(place) or 1 / 0
    )
    assert pull_to_cache(url) == first
    monkeypatch.undo()
    monkeypatch.setenv("HWPROF_HOME", str(first.parents[4]))
    assert fetched == []
    put(other)
    assert local_table(url) == first
    assert load_lut(pull_to_cache(url)).metadata["content_hash"] == other.metadata["content_hash"]
    assert load_lut(local_table(url)).metadata["content_hash"] == other.metadata["content_hash"]


def test_offline_takes_what_is_kept_and_nothing_else(lut, put, monkeypatch):
    url = put(lut)
    with pytest.raises(LutError, match="is not in the cache"):
        pull_to_cache(url, offline=True)
    kept = pull_to_cache(url)
    take_away()
    assert pull_to_cache(url, offline=True) == kept
    monkeypatch.setenv("HWPROF_OFFLINE", "1")
    assert pull_to_cache(url) == kept
    with pytest.raises(LutError, match="is not in the cache"):
        local_table("memory://shared/unknown.parquet")


def test_a_table_without_its_visits_is_read_and_says_so_when_they_are_asked_for(lut, put):
    fetched = load_lut(local_table(put(lut, visits=False)))
    assert len(fetched) == len(lut)
    with pytest.raises(LutError, match=r"visits\.parquet does not exist"):
        _ = fetched.visits


def test_visits_that_were_missing_at_first_once_never_came(lut, put):
    url = put(lut, visits=False)
    local_table(url)
    put(lut)
    assert load_lut(pull_to_cache(url)).visits.equals(lut.visits)
    assert load_lut(local_table(url)).visits.equals(lut.visits)
    fsspec.filesystem("memory").rm_file("/shared/t.visits.parquet")
    assert load_lut(pull_to_cache(url)).visits.equals(lut.visits)


def test_a_kept_copy_that_was_damaged_is_fetched_again(lut, put):
    url = put(lut)
    kept = pull_to_cache(url)
    for path in (kept, kept.with_name("lut.visits.parquet")):
        whole = path.read_bytes()
        path.write_bytes(b"damaged")
        assert pull_to_cache(url) == kept
        assert path.read_bytes() == whole


def test_visits_of_another_table_are_refused_by_the_url(lut, other, put, home):
    put(lut)
    files = fsspec.filesystem("memory")
    files.pipe_file(
        "/shared/t.visits.parquet", other.path.with_name("other.visits.parquet").read_bytes()
    )
    with pytest.raises(
        LutError, match=r"^the visits of memory://shared/t\.parquet hold the visits of a"
    ):
        local_table("memory://shared/t.parquet")
    assert list((home / "cache" / "tables").iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PAR1 cut off"])
def test_what_is_no_table_is_one_line_and_not_kept(memory, home, content):
    fsspec.filesystem("memory").pipe_file("/shared/t.parquet", content)
    with pytest.raises(LutError) as caught:
        local_table(f"{memory}/t.parquet")
    assert "\n" not in str(caught.value)
    assert not (home / "cache" / "tables").exists()
    assert not (home / "cache" / "latest").exists()


def test_a_url_where_nothing_is_says_so(memory):
    with pytest.raises(LutError, match=r"memory://shared/no\.parquet does not exist"):
        local_table(f"{memory}/no.parquet")


def test_a_damaged_note_of_the_cache_is_as_none(lut, put, home):
    url = put(lut)
    local_table(url)
    (note,) = (home / "cache" / "latest").iterdir()
    for damage in (b"", b"[]", b'{"sha256": 1}', b"\xff"):
        note.write_bytes(damage)
        assert len(load_lut(local_table(url))) == len(lut)


def test_a_copy_never_replaces_another_table_unless_told(lut, other, tmp_path):
    kept, out = lut.path, tmp_path / "out.parquet"
    assert copy_table(kept, out, overwrite=False)
    assert load_lut(out).visits.num_rows == lut.visits.num_rows
    assert not copy_table(kept, out, overwrite=False)
    write_lut(out, other.table, metadata=other.metadata, visits=other.visits)
    with pytest.raises(LutError, match=r"holds another table; give another --out, or --overwrite"):
        copy_table(kept, out, overwrite=False)
    assert load_lut(out).metadata["content_hash"] == other.metadata["content_hash"]
    assert copy_table(kept, out, overwrite=True)
    assert load_lut(out).metadata["content_hash"] == lut.metadata["content_hash"]
    stranger = tmp_path / "notes.parquet"
    stranger.write_text("my notes")
    with pytest.raises(LutError, match="will not overwrite"):
        copy_table(kept, stranger, overwrite=True)
    assert stranger.read_text() == "my notes"


def test_lost_visits_are_copied_again(lut, tmp_path):
    out = tmp_path / "out.parquet"
    copy_table(lut.path, out, overwrite=False)
    (tmp_path / "out.visits.parquet").unlink()
    assert copy_table(lut.path, out, overwrite=False)
    assert load_lut(out).visits.num_rows == lut.visits.num_rows


def test_visits_whose_table_was_moved_away_were_once_overwritten_in_silence(lut, other, tmp_path):
    out, visits = tmp_path / "out.parquet", tmp_path / "out.visits.parquet"
    copy_table(other.path, out, overwrite=False)
    out.rename(tmp_path / "old.parquet")
    before = visits.read_bytes()
    with pytest.raises(LutError, match=r"out\.visits\.parquet holds the visits of another table; give"):
        copy_table(lut.path, out, overwrite=False)
    assert visits.read_bytes() == before
    assert not out.exists()
    assert copy_table(other.path, out, overwrite=False)
    out.unlink()
    assert copy_table(lut.path, out, overwrite=True)
    assert load_lut(out).visits.equals(lut.visits)


def test_two_copies_to_one_place_at_once_were_once_mixed(save, make, tmp_path):
    rows = [make.row(op) for op in make.ops]
    tables = [save(rows[:count], f"{count}.parquet") for count in (2, 5)]
    whole = {table.path.read_bytes() for table in tables}
    out = tmp_path / "out.parquet"
    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            [*pool.map(lambda table: copy_table(table.path, out, overwrite=True), tables)]
            assert out.read_bytes() in whole


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("s3://team/tables/pixel4@0123abcd", "pixel4"),
        ("https://x.org/a/lut.parquet?sign=1", "lut"),
        ("delta+/data/store/", "store"),
        ("delta+store", "store"),
        ("folder", "folder"),
        ("runs/run@2024.parquet", "run@2024"),
        ("a?b.parquet", "a?b"),
    ],
)
def test_a_pulled_table_is_called_what_it_is_there(place, name):
    assert table_name(place) == name
