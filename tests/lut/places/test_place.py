"""Places: what a path or URL is, and that nothing but plain files of a bounded size is read."""

from __future__ import annotations

import http.server
import os
import sys
import threading

import fsspec
import pytest

from hwprof.errors import LutError
from hwprof.lut import load_lut
from hwprof.lut.places import (
    copy_table,
    is_url,
    local_table,
    open_place,
    pull_to_cache,
    shown_url,
)
from hwprof.lut.places.transfer import upload_bytes
from hwprof.lut.registry import push, registry_to_cache


@pytest.fixture
def folder(url):
    """A place with two files and a folder in it."""
    place = open_place(url)
    for name in ("b.txt", "a.txt"):
        upload_bytes(place.child(name), b"text of " + name.encode())
    upload_bytes(place.child("inner", "c.txt"), b"deep")
    return place


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lut.parquet", False),
        ("/data/lut.parquet", False),
        ("s3://bucket/lut.parquet", True),
        ("file:///data/lut.parquet", True),
        ("C:/lut.parquet", False),
        ("delta+s3://bucket/store", True),
        ("./a://b", False),
    ],
)
def test_a_url_has_a_scheme(text, expected):
    assert is_url(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sftp://team:secret@host:22/reg", "sftp://host:22/reg"),
        ("https://host/lut.parquet?sig=secret", "https://host/lut.parquet"),
        ("delta+s3://key:secret@bucket/store", "delta+s3://bucket/store"),
        ("s3://key:se/cr/et@bucket/reg/pixel@01ab", "s3://bucket/reg/pixel@01ab"),
        ("http://host:8080/reg/pixel@01ab", "http://host:8080/reg/pixel@01ab"),
        ("team@home/what?.parquet", "team@home/what?.parquet"),
    ],
)
def test_a_url_is_shown_without_its_password(text, expected):
    assert shown_url(text) == expected


def test_a_folder_lists_its_files_and_folders_and_not_what_is_in_them(folder):
    assert folder.names() == ["a.txt", "b.txt", "inner"]
    assert folder.child("inner").names() == ["c.txt"]
    assert folder.child("nowhere").names() == []


def test_a_file_says_how_long_it_is_and_changes_its_version_with_its_content(folder):
    file = folder.child("a.txt")
    before = file.info()
    upload_bytes(file, b"other text, longer")
    after = file.info()
    assert (before.bytes, after.bytes) == (13, 18)
    assert None not in (before.version, after.version)
    assert before.version != after.version
    assert folder.child("nothing").info() is None


def test_files_are_read_up_to_a_limit(folder):
    assert folder.child("a.txt").read(13) == b"text of a.txt"
    with pytest.raises(LutError, match=r"a\.txt is longer than 12 bytes"):
        folder.child("a.txt").read(12)
    with pytest.raises(LutError, match="cannot be read"):
        folder.child("nothing").read(12)
    short, missing, long = folder.read_each(["inner/c.txt", "nothing", "b.txt"], 12)
    assert short == b"deep"
    assert isinstance(missing, LutError)
    assert "is longer than 12 bytes" in str(long)


def test_a_folder_is_no_file(folder):
    with pytest.raises(LutError, match="is a folder, not a file"):
        folder.child("inner").info()
    with pytest.raises(LutError, match="cannot be read"):
        folder.child("inner").read(100)


@pytest.mark.parametrize("what", ["file", "folder", "pipe"])
def test_links_and_pipes_below_a_local_folder_are_refused(tmp_path, what):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    root = tmp_path / "place"
    root.mkdir()
    match what:
        case "file":
            (root / "x").symlink_to(tmp_path / "outside" / "secret")
            file = open_place(str(root)).child("x")
        case "folder":
            (root / "d").symlink_to(tmp_path / "outside")
            file = open_place(str(root)).child("d", "secret")
        case "pipe":
            os.mkfifo(root / "x")
            file = open_place(str(root)).child("x")
    with pytest.raises(LutError, match=r"is a symbolic link|is no regular file"):
        file.info()
    if what != "pipe":
        with pytest.raises(LutError, match="is a symbolic link"):
            file.read(100)
        with pytest.raises(LutError, match="is a symbolic link"):
            open_place(str(root)).names()


def test_a_place_that_is_itself_behind_a_link_is_fine(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    place = open_place(str(tmp_path / "link"))
    upload_bytes(place.child("a"), b"1")
    assert place.names() == ["a"]
    assert place.child("a").read(1) == b"1"


@pytest.mark.parametrize(
    ("url", "told"),
    [("nosuch://x/y", "nosuch"), ("gs://bucket/x", "gcsfs"), ("hf://datasets/a/b", "huggingface_hub")],
)
def test_a_protocol_that_is_not_there_says_what_to_install(url, told, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(LutError, match=told) as caught:
        open_place(url)
    assert "\n" not in str(caught.value)


def test_without_fsspec_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(LutError, match=r"pip install 'hwprof\[share\]'"):
        open_place("s3://bucket/x")


def test_messages_show_no_password_and_no_signature():
    place = open_place("http://user:secret@127.0.0.1:9/lut.parquet?signature=hush")
    for call in (lambda: place.read(10), lambda: place.names()):
        with pytest.raises(LutError) as caught:
            call()
        assert "secret" not in str(caught.value)
        assert "hush" not in str(caught.value)


@pytest.fixture
def asked():
    """What the web server was asked for."""
    return []


@pytest.fixture
def web(tmp_path, asked):
    """URL of a folder that Python's web server shows; it sends no parts of files."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path))

        def log_message(self, *arguments):
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_web_server_is_listed_by_its_links_and_read_up_to_a_limit(web, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a b.json").write_text("12345")
    (tmp_path / "in" / "deep").mkdir()
    place = open_place(web)
    assert place.child("in").names() == ["a b.json", "deep"]
    assert place.child("nowhere").names() == []
    assert place.child("in", "a b.json").read(5) == b"12345"
    with pytest.raises(LutError, match="longer than 4 bytes"):
        place.child("in", "a b.json").read(4)
    assert place.child("in", "a b.json").info().bytes == 5
    assert place.child("in", "nothing").info() is None


@pytest.mark.usefixtures("home")
def test_the_query_of_a_url_was_once_taken_for_a_part_of_the_name(web, lut, asked):
    query = "?x=1&signature=a/b.c"
    kept = load_lut(pull_to_cache(f"{web}/lut.parquet{query}"))
    assert kept.visits.equals(lut.visits)
    assert {*asked} == {f"/lut.parquet{query}", f"/lut.visits.parquet{query}"}


@pytest.mark.usefixtures("home")
def test_a_registry_behind_a_query_is_read(web, lut, tmp_path, asked):
    push(str(lut.path), str(tmp_path / "registry"), "phone")
    kept = registry_to_cache(f"{web}/registry?token=1")
    assert load_lut(kept).visits.equals(lut.visits)
    assert all(path.endswith("?token=1") for path in asked)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    "place",
    ["reg/\udce9", "reg\udce9/x@01234567", "\udce9.parquet", "http://127.0.0.1:9/\udce9.parquet"],
)
def test_a_name_that_is_no_utf8_once_ended_in_a_traceback(place, lut, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls = [pull_to_cache, open_place, lambda name: push(str(lut.path), name)]
    if "://" in place:
        calls.append(local_table)
    for call in [*calls, lambda name: copy_table(lut.path, tmp_path / name, overwrite=False)]:
        with pytest.raises(
            LutError, match=r"udce9.* is a name that is no UTF-8; give another$"
        ) as caught:
            call(place)
        assert str(caught.value).isprintable()


def test_a_place_with_endless_names_is_refused(memory, monkeypatch):
    monkeypatch.setattr("hwprof.lut.places.place.MOST_NAMES", 3)
    files = fsspec.filesystem("memory")
    for number in range(4):
        files.pipe_file(f"/shared/{number}", b"")
    with pytest.raises(LutError, match="holds more than 3 names"):
        open_place(memory).names()
