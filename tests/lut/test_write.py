"""Writing: round trip, refusals, and nothing partial under the final name."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.errors import LutError
from hwprof.lut import (
    STATES,
    USABLE_STATES,
    check_destination,
    load_lut,
    rows_to_table,
    visits_path_of,
    write_lut,
)
from hwprof.lut.schema import CACHES, GRANULARITIES, KEY, ORDER

SETTINGS = settings(max_examples=30, deadline=None)
positive = st.floats(1e-6, 1e6)


@st.composite
def valid_rows(draw, make):
    """Rows with distinct keys, of any state, with and without what may be null."""
    keys = st.tuples(
        st.text("0123456789abcdef", min_size=20, max_size=20),
        st.sampled_from([make.here, make.there]),
        st.sampled_from(GRANULARITIES),
        st.sampled_from(CACHES),
    )
    rows = []
    for key in draw(st.lists(keys, unique=True, max_size=8)):
        state = draw(st.sampled_from(STATES))
        numbered = state in (*USABLE_STATES, "unstable")
        row = make.row(draw(st.sampled_from(make.ops)), draw(positive) if numbered else None)
        row |= dict(zip(KEY, key, strict=True))
        row |= {
            "state": state,
            "reason": draw(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20)),
            "peak_memory_bytes": draw(st.none() | st.integers(0, 2**53)),
            "load_ms": draw(st.none() | positive),
            "residual": draw(st.none() | st.booleans()),
            "expansion": draw(st.none() | st.floats(0, 64, width=32)),
            "started_at": draw(st.sampled_from([None, row["started_at"]])),
        }
        rows.append(row)
    return rows


@SETTINGS
@given(data=st.data())
def test_what_is_written_is_read_back_in_order(data, make, tmp_path_factory):
    rows = data.draw(valid_rows(make))
    path = tmp_path_factory.mktemp("round") / "lut.parquet"
    write_lut(path, rows, metadata=make.metadata)
    in_order = sorted(rows, key=lambda row: tuple(row[name] for name in ORDER))
    assert load_lut(path).table.to_pylist() == rows_to_table(in_order).to_pylist()
    assert load_lut(path).visits.num_rows == 0


def test_a_runtimes_message_in_colours_does_not_make_the_table_unreadable(make, tmp_path):
    path = tmp_path / "lut.parquet"
    row = make.row(make.ops[0], None) | {"state": "failed", "reason": "\x1b[31mno kernel\x1b[0m"}
    write_lut(path, [row], metadata=make.metadata)
    (read,) = load_lut(path).table.to_pylist()
    assert read["reason"] == "\ufffd[31mno kernel\ufffd[0m"


@SETTINGS
@given(data=st.data())
def test_the_order_of_the_rows_does_not_change_the_content_hash(data, make, tmp_path_factory):
    folder = tmp_path_factory.mktemp("order")
    rows = data.draw(valid_rows(make))
    write_lut(folder / "a.parquet", rows, metadata=make.metadata)
    write_lut(folder / "b.parquet", data.draw(st.permutations(rows)), metadata=make.metadata)
    hashes = [load_lut(folder / name).metadata["content_hash"] for name in ("a.parquet", "b.parquet")]
    assert hashes[0] == hashes[1]


def test_a_table_can_be_rewritten_from_what_was_loaded(lut, tmp_path):
    copy = tmp_path / "copy.parquet"
    write_lut(copy, lut.table, metadata=lut.metadata, visits=lut.visits)
    assert load_lut(copy).metadata["content_hash"] == lut.metadata["content_hash"]
    assert load_lut(copy).metadata["visits_hash"] == lut.metadata["visits_hash"]


def test_metadata_comes_back(lut, make):
    assert lut.metadata["spaces"] == ["tiny"]
    assert lut.environments == make.metadata["environments"]
    assert lut.metadata["schema_version"] == 1
    assert lut.metadata["interval_level"] == 0.9
    assert lut.metadata["composition"] is None


def test_duplicate_keys_are_refused(tmp_path, rows, make):
    with pytest.raises(LutError, match="two rows have the key op_id"):
        write_lut(tmp_path / "t.parquet", [*rows, rows[3]], metadata=make.metadata)
    assert os.listdir(tmp_path) == []


def test_the_same_op_in_another_cache_state_is_another_row(tmp_path, make):
    rows = [make.row(make.ops[0], cache=cache) for cache in CACHES]
    write_lut(tmp_path / "t.parquet", rows, metadata=make.metadata)
    assert len(load_lut(tmp_path / "t.parquet")) == 3


def test_a_bad_row_leaves_no_file(tmp_path, rows, make):
    rows[2]["latency_ms"] = float("nan")
    with pytest.raises(LutError, match="latency_ms is nan"):
        write_lut(tmp_path / "t.parquet", rows, metadata=make.metadata)
    assert os.listdir(tmp_path) == []


def test_an_environment_that_is_not_described_is_refused(tmp_path, rows, make):
    metadata = {**make.metadata, "environments": {}}
    with pytest.raises(LutError, match=f"does not describe {make.here}"):
        write_lut(tmp_path / "t.parquet", rows, metadata=metadata)
    metadata["environments"] = {make.here: {"identity": {}}}
    with pytest.raises(LutError, match="identity"):
        write_lut(tmp_path / "t.parquet", rows, metadata=metadata)


def test_metadata_typos_are_refused(tmp_path, rows, make):
    with pytest.raises(LutError, match="unknown metadata license; known: "):
        write_lut(tmp_path / "t.parquet", rows, metadata={**make.metadata, "license": "CC-BY-4.0"})
    with pytest.raises(LutError, match="environments must be given"):
        write_lut(tmp_path / "t.parquet", rows, metadata={"spaces": []})


def test_a_visit_without_its_row_is_refused(tmp_path, rows, make):
    with pytest.raises(LutError, match="a visit has no row"):
        write_lut(tmp_path / "t.parquet", rows[:1], metadata=make.metadata, visits=make.visits(rows[1]))


@pytest.mark.parametrize("value", [0.0, float("nan"), None])
def test_a_visit_without_a_number_is_refused(tmp_path, rows, make, value):
    visits = make.visits(rows[0])
    visits[1]["p10_ms"] = value
    with pytest.raises(LutError, match="p10_ms is"):
        write_lut(tmp_path / "t.parquet", rows, metadata=make.metadata, visits=visits)


def test_a_missing_folder_is_named(tmp_path, rows, make):
    with pytest.raises(LutError, match="nowhere does not exist; create it"):
        write_lut(tmp_path / "nowhere" / "t.parquet", rows, metadata=make.metadata)


def test_a_folder_is_no_table(tmp_path, rows, make):
    with pytest.raises(LutError, match="is a folder; give a file name"):
        write_lut(tmp_path, rows, metadata=make.metadata)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to read-only folders")
def test_a_read_only_folder_is_named(tmp_path, rows, make):
    tmp_path.chmod(0o500)
    with pytest.raises(LutError, match="is read-only"):
        write_lut(tmp_path / "t.parquet", rows, metadata=make.metadata)


def test_a_read_only_folder_is_found_by_asking_the_system(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda folder, mode: False)
    with pytest.raises(LutError, match="is read-only"):
        check_destination(tmp_path / "t.parquet")


@pytest.mark.parametrize("name", ["t.parquet", "t.visits.parquet"])
@pytest.mark.parametrize("content", ["other parquet", "text", "empty", "cut off"])
def test_what_is_no_hwprof_table_is_never_overwritten(tmp_path, rows, make, lut, name, content):
    stranger = tmp_path / name
    if content == "other parquet":
        pq.write_table(pa.table({"a": [1]}), stranger)
    elif content == "cut off":
        stranger.write_bytes(lut.path.read_bytes()[:-20])
    else:
        stranger.write_text("my notes" if content == "text" else "")
    before = stranger.read_bytes()
    with pytest.raises(LutError, match="will not overwrite") as caught:
        write_lut(tmp_path / "t.parquet", rows, metadata=make.metadata)
    assert "\n" not in str(caught.value)
    assert stranger.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {name, lut.path.name, visits_path_of(lut.path).name}


def test_a_table_is_written_through_a_symbolic_link(tmp_path, rows, make):
    (tmp_path / "real").mkdir()
    link = tmp_path / "t.parquet"
    link.symlink_to(tmp_path / "real" / "t.parquet")
    write_lut(link, rows, metadata=make.metadata)
    assert link.is_symlink()
    assert len(load_lut(tmp_path / "real" / "t.parquet")) == len(rows)


@pytest.mark.parametrize(("function", "call"), [("fsync", 1), ("fsync", 2), ("replace", 1)])
def test_a_full_disk_leaves_the_old_table_and_no_litter(lut, make, monkeypatch, function, call):
    before = {p.name: p.read_bytes() for p in lut.path.parent.iterdir()}
    real, calls = getattr(os, function), []

    def failing(*args, **kwargs):
        calls.append(args)
        if len(calls) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, function, failing)
    faster = [make.row(op, 0.5) for op in make.ops]
    visits = [visit for row in faster for visit in make.visits(row)]
    with pytest.raises(LutError, match="No space left on device") as caught:
        write_lut(lut.path, faster, metadata=make.metadata, visits=visits)
    assert "\n" not in str(caught.value)
    assert {p.name: p.read_bytes() for p in lut.path.parent.iterdir()} == before


CHILD = """
import os, resource, signal, sys
from hwprof.lut import load_lut, write_lut
path, function, call = sys.argv[1], sys.argv[2], int(sys.argv[3])
lut = load_lut(path)
place = lut.table.column_names.index("space")
import pyarrow as pa
changed = lut.table.set_column(place, "space", pa.array(["new"] * len(lut)))
visits = lut.visits.slice(0, 5)
if function == "size":
    resource.setrlimit(resource.RLIMIT_FSIZE, (call, call))
else:
    real, calls = getattr(os, function), []
    def killing(*args, **kwargs):
        calls.append(args)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    setattr(os, function, killing)
try:
    write_lut(path, changed, metadata=lut.metadata, visits=visits)
except Exception as error:
    print(type(error).__name__, error)
"""


def run_child(path: Path, function: str, call: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHILD, str(path), function, str(call)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("function", "call"), [("fsync", 1), ("fsync", 2), ("replace", 1)])
def test_killed_before_the_first_rename_the_old_table_and_visits_stand(lut, function, call):
    assert run_child(lut.path, function, call).returncode == -signal.SIGKILL
    after = load_lut(lut.path)
    assert after.metadata["content_hash"] == lut.metadata["content_hash"]
    assert after.visits.num_rows == lut.visits.num_rows
    assert after.table.column("space").to_pylist() == ["tiny"] * len(lut)


def test_killed_between_the_renames_the_old_table_stands_and_the_strange_visits_are_reported(lut):
    assert run_child(lut.path, "replace", 2).returncode == -signal.SIGKILL
    after = load_lut(lut.path)
    assert after.table.column("space").to_pylist() == ["tiny"] * len(lut)
    with pytest.raises(LutError, match="visits of another table"):
        _ = after.visits


def test_killed_after_the_renames_the_new_table_stands(lut):
    assert run_child(lut.path, "fsync", 3).returncode == -signal.SIGKILL
    after = load_lut(lut.path)
    assert after.table.column("space").to_pylist() == ["new"] * len(lut)
    assert after.visits.num_rows == 5


def test_a_write_that_stops_half_way_is_one_line_and_leaves_no_litter(lut):
    before = sorted(os.listdir(lut.path.parent))
    done = run_child(lut.path, "size", 2000)
    assert done.stdout.startswith("LutError")
    assert "could not be written: File too large; nothing was replaced" in done.stdout
    assert done.stdout.count("\n") == 1
    assert sorted(os.listdir(lut.path.parent)) == before
    assert load_lut(lut.path).metadata["content_hash"] == lut.metadata["content_hash"]


@pytest.mark.parametrize("name", ["x" * 300, "\udce9"], ids=["too long", "no UTF-8"])
def test_a_name_that_no_file_has_once_ended_in_a_traceback(tmp_path, name):
    with pytest.raises(LutError):
        load_lut(tmp_path / f"{name}.parquet")


def test_a_name_that_no_file_can_get_is_refused_before_a_build(tmp_path):
    with pytest.raises(LutError, match="File name too long; give another path"):
        check_destination(tmp_path / f"{'x' * 300}.parquet")
