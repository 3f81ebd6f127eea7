"""The journal: what was appended is there after truncation, damage, kill and a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.errors import BuildError, LutError
from hwprof.lut import Journal, read_journal

HEADER = {"build_id": "b1", "space": "tiny"}
RECORDS = [
    {"type": "visit", "n": n, "text": "ü*{0123456789abcdef}", "ms": [1.5, n / 3]} for n in range(6)
]


def write(path, records=RECORDS):
    with Journal.create(path, HEADER) as journal:
        for record in records:
            journal.append(record)
        journal.sync()
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "journal")


def test_header_and_records_come_back(path):
    content = read_journal(path)
    assert content.header == HEADER
    assert list(content.records) == RECORDS
    assert content.damaged_lines == ()
    assert content.torn_bytes == 0


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=50)
@given(records=st.lists(st.dictionaries(st.text(), json_values, max_size=4), max_size=5))
def test_any_json_record_survives_the_round_trip(records, tmp_path_factory):
    path = write(tmp_path_factory.mktemp("any") / "journal", records)
    assert list(read_journal(path).records) == records


def test_a_reopened_journal_goes_on_where_it_ended(path):
    journal, header, records, damaged = Journal.open(path)
    with journal:
        assert (header, list(records), damaged) == (HEADER, RECORDS, ())
        journal.append({"n": 99})
    assert list(read_journal(path).records) == [*RECORDS, {"n": 99}]


def test_a_journal_cut_at_any_byte_keeps_every_whole_line(path):
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        lines = sum(end <= length for end in ends)
        if lines == 0:
            with pytest.raises(LutError, match="no readable journal header"):
                Journal.open(path)
            assert path.read_bytes() == whole[:length]
            continue
        journal, _, records, damaged = Journal.open(path)
        with journal:
            journal.append({"n": 99})
        assert list(records) == RECORDS[: lines - 1]
        assert damaged == ()
        assert list(read_journal(path).records) == [*RECORDS[: lines - 1], {"n": 99}]
        assert read_journal(path).torn_bytes == 0


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_a_flipped_byte_costs_its_own_record_and_no_other(path, flip):
    whole = path.read_bytes()
    line_of = [0]
    for byte in whole:
        line_of.append(line_of[-1] + (byte == ord("\n")))
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
        hit = line_of[place]
        if hit == 0:
            with pytest.raises(LutError, match="no readable journal header"):
                read_journal(path)
            continue
        content = read_journal(path)
        assert list(content.records) == RECORDS[: hit - 1] + RECORDS[hit:]
        told = content.damaged_lines or content.torn_bytes
        assert told
        assert not content.damaged_lines or content.damaged_lines[0] == hit + 1


def test_appending_after_damage_keeps_the_damaged_line_where_it_is(path):
    damaged_bytes = path.read_bytes().replace(b'"n":2', b'"n":7')
    path.write_bytes(damaged_bytes)
    journal, _, records, damaged = Journal.open(path)
    with journal:
        journal.append({"n": 99})
    assert damaged == (4,)
    assert list(records) == RECORDS[:2] + RECORDS[3:]
    assert path.read_bytes().startswith(damaged_bytes)


def test_an_existing_journal_is_not_started_over(path):
    before = path.read_bytes()
    with pytest.raises(LutError, match="exists; resume it"):
        Journal.create(path, HEADER)
    assert path.read_bytes() == before


def test_an_empty_file_left_by_a_kill_before_the_header_is_taken_over(tmp_path):
    (tmp_path / "journal").touch()
    assert read_journal(write(tmp_path / "journal")).header == HEADER


@pytest.mark.parametrize("content", [b"", b"my notes\nmore\n", b"\x00\xff\n", b'00000000 {"a":1}\n'])
def test_what_is_no_journal_is_refused_and_left_as_it_is(tmp_path, content):
    file = tmp_path / "journal"
    file.write_bytes(content)
    for read in (read_journal, Journal.open):
        with pytest.raises(LutError, match="left as it is") as caught:
            read(file)
        assert "\n" not in str(caught.value)
    assert file.read_bytes() == content


def test_a_missing_journal_and_a_folder_are_refused_without_litter(tmp_path):
    with pytest.raises(LutError, match="cannot be read: No such file"):
        Journal.open(tmp_path / "journal")
    with pytest.raises(LutError, match="cannot be read: Is a directory"):
        Journal.open(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(LutError, match="existing folder"):
        Journal.create(tmp_path / "nowhere" / "journal", HEADER)


def test_another_format_asks_for_the_version_that_began_it(path, monkeypatch):
    monkeypatch.setattr("hwprof.lut.journal.FORMAT", 0)
    with pytest.raises(LutError, match="is a journal of format 3, this hwprof reads 0; finish"):
        read_journal(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_a_record_that_is_no_json_is_refused_and_nothing_is_written(path, value):
    before = path.read_bytes()
    journal, *_ = Journal.open(path)
    with journal, pytest.raises(LutError, match="must be JSON"):
        journal.append({"ms": value})
    assert path.read_bytes() == before


def test_a_second_writer_is_told_who_holds_the_journal(path):
    journal, *_ = Journal.open(path)
    with (
        journal,
        pytest.raises(BuildError, match=f"being written by the process with pid {os.getpid()};"),
    ):
        Journal.open(path)
    Journal.open(path)[0].close()


def test_reading_does_not_need_or_release_the_lock(path):
    journal, *_ = Journal.open(path)
    with journal:
        read_journal(path)
        with pytest.raises(BuildError):
            Journal.open(path)


def test_closing_twice_is_allowed(path):
    journal, *_ = Journal.open(path)
    journal.close()
    journal.close()


WRITER = """
import sys
from hwprof.lut import Journal
journal, *_ = Journal.open(sys.argv[1])
n = 0
while True:
    journal.append({"n": n, "pad": "x" * 200})
    print(n, flush=True)
    n += 1
"""


def test_a_killed_writer_loses_nothing_that_it_had_appended_and_its_lock_is_free(path):
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(50)]
        with pytest.raises(BuildError, match=f"pid {writer.pid};"):
            Journal.open(path)
        writer.send_signal(signal.SIGKILL)
        told += [int(line) for line in writer.stdout.read().splitlines()]
    journal, _, records, damaged = Journal.open(path)
    journal.close()
    assert damaged == ()
    kept = [record["n"] for record in records[len(RECORDS) :]]
    assert kept[: len(told)] == told


FULL = """
import resource, sys
from hwprof.errors import LutError
from hwprof.lut import Journal
journal, *_ = Journal.open(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    for n in range(1000):
        journal.append({"n": n})
except LutError as error:
    print(n, error)
"""


@pytest.mark.parametrize("room", [0, 1, 30, 31])
def test_a_full_disk_is_one_line_and_keeps_all_records_before(path, room):
    command = [sys.executable, "-c", FULL, str(path), str(path.stat().st_size + room)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "all records before this one are kept" in said
    assert said.count("\n") == 1
    content = read_journal(path)
    assert list(content.records) == RECORDS + [{"n": n} for n in range(int(said.split()[0]))]
    assert content.torn_bytes == 0
