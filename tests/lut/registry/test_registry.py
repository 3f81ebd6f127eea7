"""A registry: what is pushed is there, whole, once, and comes back as it was; whoever else pushes."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from hwprof.cli.lut import lut as command
from hwprof.errors import LutError
from hwprof.lut import load_lut
from hwprof.lut.places import open_place
from hwprof.lut.places.transfer import upload_bytes
from hwprof.lut.registry import list_tables, push, registry_to_cache
from hwprof.lut.write import update_metadata

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def place(url):
    """Of a registry."""
    return url


@pytest.fixture
def folder(tmp_path):
    """A local registry."""
    return str(tmp_path / "registry")


@pytest.fixture
def tables(save, make):
    """Three tables, the first with visits."""
    found = []
    for number in (1, 2, 3):
        rows = [make.row(op, float(number)) for op in make.ops]
        visits = [visit for row in rows for visit in make.visits(row)] if number == 1 else None
        found.append(save(rows, f"t{number}.parquet", visits))
    return found


@pytest.fixture
def run():
    def invoke(*words):
        result = CliRunner().invoke(command, [str(word) for word in words])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


def test_a_table_comes_back_as_it_was_with_its_visits(place, tables):
    table = tables[0]
    done = push(str(table.path), place, "pixel4")
    assert done.new
    kept = registry_to_cache(f"{place}/pixel4")
    assert kept.read_bytes() == table.path.read_bytes()
    assert load_lut(kept).visits.equals(table.visits)
    (entry,) = list_tables(place).entries
    assert entry == done.entry
    assert (entry.name, entry.rows, entry.spaces) == ("pixel4", len(table), ("tiny",))
    assert entry.environments == ("cpu-a, ort 1.31", "cpu-a, ort 1.32")
    assert entry.table.content_hash == table.metadata["content_hash"]


def test_pushing_again_sends_and_changes_nothing(place, tables):
    first = push(str(tables[0].path), place)
    again = push(str(tables[0].path), place)
    assert first.sent_bytes == first.entry.table.bytes + first.entry.visits.bytes
    assert (again.new, again.sent_bytes) == (False, 0)
    assert [entry.pushed_at for entry in list_tables(place).entries] == [first.entry.pushed_at]
    other_name = push(str(tables[0].path), place, "other")
    assert (other_name.new, other_name.sent_bytes) == (True, 0)


def test_a_name_stands_for_its_latest_table_and_a_hash_for_any(place, tables):
    pushed = [push(str(table.path), place, "phone").entry for table in tables]
    assert [entry.table for entry in list_tables(place).entries] == [e.table for e in pushed[::-1]]
    assert registry_to_cache(place).read_bytes() == tables[2].path.read_bytes()
    for entry, table in zip(pushed, tables, strict=True):
        for start in (entry.table.sha256[:8], entry.table.content_hash[:12]):
            kept = registry_to_cache(f"{place}/phone@{start}")
            assert kept.read_bytes() == table.path.read_bytes()


def test_an_object_that_another_tool_has_cut_off_is_sent_again(folder, tables):
    entry = push(str(tables[0].path), folder).entry
    path = os.path.join(folder, "objects", entry.table.name)
    with open(path, "r+b") as file:
        file.truncate(100)
    assert push(str(tables[0].path), folder).sent_bytes == entry.table.bytes
    assert registry_to_cache(folder).read_bytes() == tables[0].path.read_bytes()


@pytest.mark.parametrize("what", ["table", "visits"])
def test_a_damaged_object_of_the_right_size_once_could_not_be_mended(place, tables, caplog, what):
    entry = push(str(tables[0].path), place).entry
    stored = getattr(entry, what)
    damaged = open_place(place).child("objects", stored.name)
    upload_bytes(damaged, bytes(stored.bytes))
    with pytest.raises(LutError, match="is damaged: its sha256 is"):
        registry_to_cache(f"{place}/t1")
    again = push(str(tables[0].path), place)
    assert (again.new, again.sent_bytes) == (False, stored.bytes)
    assert f"{damaged} was damaged and is written anew" in caplog.text
    assert open_place(place).child("objects").names() == sorted({entry.table.name, entry.visits.name})
    kept = registry_to_cache(f"{place}/t1")
    assert kept.read_bytes() == tables[0].path.read_bytes()
    assert load_lut(kept).visits.equals(tables[0].visits)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("/nothing", "has no table 'nothing'; it has phone, tablet"),
        ("", "holds tables of 2 names; add /NAME: phone, tablet"),
        ("/phone@00000000", "has no table phone@00000000; choose of "),
        ("/phone@12", "'12' is no hash; give 8 to 64 of the digits"),
        ("/phone@../../x", "is no registry"),
        ("/../registry/none", "has no table 'none'"),
        ("-not", "is no registry and no table of one"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(folder, tables, reference, message):
    push(str(tables[0].path), folder, "phone")
    push(str(tables[1].path), folder, "tablet")
    with pytest.raises(LutError, match=message) as caught:
        registry_to_cache(folder + reference)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "..", "a/b", "../x", "a b", "-x", "x" * 101, "é", "a\n"])
def test_a_name_is_letters_and_digits(folder, tables, name):
    with pytest.raises(LutError, match="is no name for a table"):
        push(str(tables[0].path), folder, name or " ")
    assert not os.path.exists(folder)


def test_a_table_that_was_pushed_as_a_file_once_could_not_be_pulled(folder, tables):
    for name in ("pixel.parquet", "pixel.parquet.parquet"):
        with pytest.raises(LutError, match=r"is the name of a file; give the table --name pixel$"):
            push(str(tables[0].path), folder, name)
    assert not os.path.exists(folder)
    push(str(tables[0].path), folder, "pixel")
    assert registry_to_cache(f"{folder}/pixel").read_bytes() == tables[0].path.read_bytes()


def test_a_table_is_not_pushed_without_its_visits_or_with_those_of_another(folder, tables, save, make):
    visits = tables[0].path.with_name("t1.visits.parquet")
    rows = [make.row(op, 9.0) for op in make.ops]
    other = save(rows, "other.parquet", [visit for row in rows for visit in make.visits(row)])
    shutil.copy(other.path.with_name("other.visits.parquet"), visits)
    with pytest.raises(LutError, match="hold the visits of another table"):
        push(str(tables[0].path), folder)
    visits.unlink()
    with pytest.raises(LutError, match=r"t1\.visits\.parquet does not exist"):
        push(str(tables[0].path), folder)
    assert not os.path.exists(folder)


def test_what_was_fetched_is_used_without_the_place(memory, tables, monkeypatch):
    entry = push(str(tables[0].path), memory, "phone").entry
    push(str(tables[1].path), memory, "phone")
    kept = registry_to_cache(f"{memory}/phone@{entry.table.sha256[:10]}")
    open_place(memory).fs.rm("/shared", recursive=True)
    assert registry_to_cache(f"{memory}/phone@{entry.table.sha256[:10]}") == kept
    assert len(list_tables(memory, offline=True).entries) == 2
    with pytest.raises(LutError, match=r"is not in the cache; run the command again without --offline"):
        registry_to_cache(f"{memory}/phone", offline=True)
    with pytest.raises(LutError, match="is no registry"):
        registry_to_cache(f"{memory}/phone")
    monkeypatch.setenv("HWPROF_OFFLINE", "1")
    with pytest.raises(LutError, match="HWPROF_OFFLINE is set"):
        push(str(tables[0].path), memory)


def test_a_withdrawn_table_once_stayed_the_latest_offline(memory, tables):
    first, second = (push(str(table.path), memory, "phone").entry for table in tables[:2])
    push(str(tables[2].path), memory, "tablet")
    assert len(list_tables(memory).entries) == 3
    files = open_place(memory).fs
    files.rm(f"/shared/entries/phone/{second.file_name}")
    files.rm("/shared/entries/tablet", recursive=True)
    registry_to_cache(f"{memory}/phone")
    assert list_tables(memory).entries == list_tables(memory, offline=True).entries == (first,)
    kept = registry_to_cache(f"{memory}/phone", offline=True)
    assert kept.read_bytes() == tables[0].path.read_bytes()


def test_a_table_that_was_withdrawn_and_pushed_again_once_kept_its_old_date(memory, tables):
    first = push(str(tables[0].path), memory, "phone").entry
    push(str(tables[1].path), memory, "phone")
    list_tables(memory)
    open_place(memory).fs.rm(f"/shared/entries/phone/{first.file_name}")
    push(str(tables[0].path), memory, "phone")
    for offline in (False, True):
        kept = list_tables(memory, offline=offline).entries
        assert kept[0].table == first.table
        assert kept[0].pushed_at > first.pushed_at


def test_an_empty_kept_entry_once_made_a_whole_registry_unreadable(memory, tables, home):
    entry = push(str(tables[0].path), memory, "phone").entry
    registry_to_cache(f"{memory}/phone")
    (kept,) = (home / "cache" / "entries").glob("*/entries/phone/*.json")
    kept.write_bytes(b"")
    with pytest.raises(LutError, match=r"kept entry phone/.* is damaged; .* without --offline$"):
        registry_to_cache(f"{memory}/phone", offline=True)
    assert list_tables(memory).entries == (entry,)
    assert registry_to_cache(f"{memory}/phone", offline=True)


def test_a_damaged_entry_once_could_not_be_mended(place, tables, caplog):
    entry = push(str(tables[0].path), place).entry
    damaged = open_place(place).child("entries", "t1", entry.file_name)
    upload_bytes(damaged, b"{}")
    with pytest.raises(LutError, match="is no index entry"):
        registry_to_cache(f"{place}/t1")
    assert push(str(tables[0].path), place).new
    assert f"{damaged} was damaged and is written anew" in caplog.text
    assert registry_to_cache(f"{place}/t1").read_bytes() == tables[0].path.read_bytes()


def test_a_table_pulled_by_its_registry_alone_was_once_named_after_the_folder(
    folder, tables, run, tmp_path, monkeypatch
):
    push(str(tables[0].path), folder, "pixel4")
    monkeypatch.chdir(tmp_path)
    assert run("pull", folder).stdout.startswith("pixel4.parquet: ")
    assert Path("pixel4.parquet").read_bytes() == tables[0].path.read_bytes()


def test_characters_that_nobody_sees_once_went_to_the_terminal(folder, save, make, run):
    odd = "MIT\u202eYB-CC\u2028second"
    table = save([make.row(make.ops[0])], "odd.parquet")
    update_metadata(table.path, licence=odd, title=odd, authors=[odd])
    push(str(table.path), folder)
    out = folder + ".parquet"
    for words in (
        ["list", folder],
        ["merge", table.path, "--out", out],
        ["cite", table.path, "--bibtex"],
    ):
        printed = run(*words).stdout
        assert "u202eYB" in printed
        assert not {"\u202e", "\u2028"} & set(printed)


def test_a_registry_is_read_over_http_and_not_written(folder, tables, tmp_path):
    push(str(tables[0].path), folder, "phone")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=folder)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        kept = registry_to_cache(f"{url}/phone")
        assert kept.read_bytes() == tables[0].path.read_bytes()
        assert load_lut(kept).visits.num_rows == tables[0].visits.num_rows
        with pytest.raises(LutError, match="can only be read"):
            push(str(tables[1].path), url)
    finally:
        server.shutdown()
        server.server_close()


PUSH = """
import json, os, sys
import pyarrow.parquet, s3fs
from hwprof.lut.registry import push
place, shares = sys.argv[1], json.loads(sys.argv[2])
wait, go = os.pipe()
children = []
for number, share in enumerate(shares):
    if child := os.fork():
        children.append(child)
        continue
    os.close(go)
    os.read(wait, 1)
    for table in share:
        os.write(1, f"{push(table, place, 'shared').entry.table.sha256}\\n".encode())
    os._exit(0)
os.close(go)
print(sum(os.waitpid(child, 0)[1] for child in children), "failed")
"""


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_eight_processes_push_at_once_and_nothing_is_lost(request, tmp_path, save, make, kind):
    place = str(tmp_path / "r") if kind == "file" else f"{request.getfixturevalue('bucket')}/r"
    paths = [
        str(save([make.row(make.ops[0], 1.0 + number)], f"n{number}.parquet").path)
        for number in range(25)
    ]
    # Everybody pushes the first table, and three of his own.
    shares = [[paths[0], *paths[1 + 3 * number : 4 + 3 * number]] for number in range(8)]
    program = [sys.executable, "-c", PUSH, place, json.dumps(shares)]
    told = subprocess.run(program, capture_output=True, text=True, check=True).stdout.splitlines()
    assert told.pop() == "0 failed"
    listing = list_tables(place)
    assert listing.refused == ()
    assert len(told) == 32
    assert len(listing.entries) == 25
    assert {entry.table.sha256 for entry in listing.entries} == {*told}
    back = {registry_to_cache(f"{place}/shared@{e.table.sha256}").read_bytes() for e in listing.entries}
    assert back == {Path(path).read_bytes() for path in paths}


KILLED = """
import os, signal, sys
from hwprof.lut.registry import push
place, table, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
real, calls = os.replace, []
def killing(*arguments):
    calls.append(arguments)
    if len(calls) == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)
os.replace = killing
push(table, place, "phone")
"""


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_killed_push_shows_nothing_and_is_taken_up_by_the_next(folder, tables, number):
    """Before the visits, the table and the entry take their names."""
    push(str(tables[1].path), folder, "before")
    command_line = [sys.executable, "-c", KILLED, folder, str(tables[0].path), str(number)]
    assert subprocess.run(command_line, check=False).returncode == -9
    listing = list_tables(folder)
    assert [entry.name for entry in listing.entries] == ["before"]
    assert listing.refused == ()
    done = push(str(tables[0].path), folder, "phone")
    sizes = [done.entry.visits.bytes, done.entry.table.bytes]
    assert (done.new, done.sent_bytes) == (True, sum(sizes[number - 1 :]))
    assert registry_to_cache(f"{folder}/phone").read_bytes() == tables[0].path.read_bytes()


def test_the_commands_push_list_and_pull(folder, tables, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = tables[0]
    pushed = json.loads(run("push", table.path, folder, "--name", "phone", "--json").stdout)
    sha256 = pushed["table"]["sha256"]
    assert (pushed["new"], pushed["rows"]) == (True, len(table))
    assert run("push", table.path, folder, "--name", "phone").stdout == (
        f"{folder}/phone@{sha256[:12]} (was there already)\n"
    )
    text = run("list", folder).stdout
    assert text.splitlines()[0].split()[:2] == ["name", "hash"]
    assert text.splitlines()[1].split()[:2] == ["phone", sha256[:12]]
    (told,) = json.loads(run("list", folder, "--json").stdout)["tables"]
    assert told["table"]["sha256"] == sha256
    assert run("pull", f"{folder}/phone").stdout == f"phone.parquet: {sha256[:12]}\n"
    assert (tmp_path / "phone.parquet").read_bytes() == table.path.read_bytes()
    again = json.loads(
        run("pull", f"{folder}/phone@{sha256[:8]}", "--out", "x.parquet", "--json").stdout
    )
    assert again == {"path": "x.parquet", "sha256": sha256, "written": True}
    push(str(tables[1].path), folder, "phone")
    with pytest.raises(LutError, match="holds another table"):
        run("pull", f"{folder}/phone")
    run("pull", f"{folder}/phone", "--overwrite")
    assert (tmp_path / "phone.parquet").read_bytes() == tables[1].path.read_bytes()
    assert run("pull", f"{folder}/phone", "--version", 3).exit_code == 2


def test_the_password_of_a_url_was_printed_and_kept_in_the_cache(sftp, tables, run, home, caplog):
    table = str(tables[0].path)
    told = [run("push", table, sftp, "--name", "pixel4"), run("list", sftp)]
    told.append(run("pull", f"{sftp}/pixel4", "--out", home.parent / "out.parquet"))
    told.append(run("info", f"{sftp}/pixel4"))
    with pytest.raises(LutError, match="does not exist") as error:
        run("info", f"{sftp}/nothing.parquet")
    assert "secret" not in str(error.value)
    assert "using the copy of sftp://127.0.0.1" in caplog.text
    kept = [path.read_bytes() for path in (home / "cache").rglob("*") if path.is_file()]
    everything = [result.output.encode() for result in told] + [caplog.text.encode(), *kept]
    assert not any(b"secret" in text for text in everything)
