"""A store: every appended batch is there once, now, then and for other readers, whatever was killed."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from hwprof.errors import LutError
from hwprof.lut import load_lut
from hwprof.lut.places import local_table
from hwprof.lut.store import Store, checks, list_store, push_to_store, store_to_cache
from hwprof.lut.store import delta as deltas

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(params=["file", "s3"])
def place(request, tmp_path):
    if request.param == "file":
        return f"delta+{tmp_path}/store"
    return f"delta+{request.getfixturevalue('bucket')}/store"


def latencies(path: Path) -> dict[str, float]:
    table = load_lut(path).table
    return dict(zip(table["op_id"].to_pylist(), table["latency_ms"].to_pylist(), strict=True))


def batch(make, latency_ms: float, hours: int = 0) -> list[dict]:
    """Rows of all ops, measured so many hours later."""
    began = make.row(make.ops[0])["started_at"] + timedelta(hours=hours)
    return [make.row(op, latency_ms, started_at=began) for op in make.ops]


def test_a_pushed_table_comes_back_with_rows_visits_and_what_it_says_of_itself(place, lut):
    done = push_to_store(str(lut.path), place)
    assert (done.new, done.version) == (True, 1)
    back = load_lut(store_to_cache(place))
    assert back.table.equals(lut.table)
    assert back.visits.equals(lut.visits)
    for key in ("spaces", "environments", "licence", "composition", "validation"):
        assert back.metadata[key] == lut.metadata[key]


def test_a_table_pushed_twice_is_there_once(place, lut):
    first = push_to_store(str(lut.path), place, "phone")
    again = push_to_store(str(lut.path), place, "phone")
    assert (again.new, again.batch_id, again.version) == (False, first.batch_id, first.version)
    assert list_store(place).rows == len(lut)


def test_a_batch_is_appended_once_and_a_writer_goes_on_after_its_last(folder, make):
    store = Store(folder)
    assert store.last_sequence("here") is None
    for number in range(3):
        store.append(batch(make, 1.0 + number), make.metadata, writer="here", sequence=number)
    again = Store(folder)
    assert again.last_sequence("here") == 2
    assert not again.append(batch(make, 9.0), make.metadata, writer="here", sequence=2).new
    assert list_store(folder).rows == 3 * len(make.ops)


def test_of_rows_of_one_key_the_newest_is_taken_and_the_others_are_counted(folder, make, caplog):
    store = Store(folder)
    store.append(batch(make, 2.0, hours=2), make.metadata, writer="a", sequence=0)
    store.append(batch(make, 1.0, hours=1), make.metadata, writer="b", sequence=0)
    imported = [row | {"started_at": None} for row in batch(make, 3.0)]
    store.append(imported, make.metadata, writer="c", sequence=0)
    store.append(batch(make, 2.0, hours=2), make.metadata, writer="d", sequence=0)
    assert set(latencies(store_to_cache(folder)).values()) == {2.0}
    assert f"{len(make.ops)} rows had been appended more than once" in caplog.text
    assert f"{2 * len(make.ops)} rows were left out by the rule newest" in caplog.text
    with pytest.raises(LutError, match=r"^6 rows differ between the tables: .* \(a/0, b/0, c/0\)"):
        store_to_cache(folder, on_conflict="refuse")


def test_a_converged_row_stays_though_an_unstable_one_is_newer(folder, make):
    store = Store(folder)
    store.append(batch(make, 1.0, hours=1), make.metadata, writer="a", sequence=0)
    disturbed = [row | {"state": "unstable", "reason": "disturbed"} for row in batch(make, 9.0, hours=2)]
    store.append(disturbed, make.metadata, writer="b", sequence=0)
    assert set(latencies(store_to_cache(folder)).values()) == {1.0}


def test_visits_are_those_of_the_batch_that_the_row_is_of(folder, make):
    store = Store(folder)
    for hours, latency_ms in ((1, 1.0), (2, 2.0)):
        rows = batch(make, latency_ms, hours)
        visits = [visit for row in rows for visit in make.visits(row)]
        store.append(rows, make.metadata, writer=str(hours), sequence=0, visits=visits)
    back = load_lut(store_to_cache(folder))
    assert set(back.visits["p10_ms"].to_pylist()) == {2.0}
    assert back.visits.num_rows == 3 * len(make.ops)


def test_old_versions_and_times_are_read_as_they_were(folder, make):
    store = Store(folder)
    for number in range(3):
        store.append(batch(make, 1.0 + number, number), make.metadata, writer="a", sequence=number)
    store.compact()
    for number in range(3):
        then = store_to_cache(folder, version=1 + number)
        assert set(latencies(then).values()) == {1.0 + number}
    assert set(latencies(store_to_cache(folder, as_of=datetime.now(UTC))).values()) == {3.0}
    with pytest.raises(LutError, match=r"has no version 9; it has 0 to 4"):
        store_to_cache(folder, version=9)
    with pytest.raises(LutError, match="two ways to say one thing"):
        store_to_cache(folder, version=1, as_of=datetime.now(UTC))


def test_time_travel_by_time(folder, make):
    """The log's files carry the times; they are moved apart, so that nothing has to wait."""
    store = Store(folder)
    for number in range(2):
        store.append(batch(make, 1.0 + number, number), make.metadata, writer="a", sequence=number)
    log = Path(folder.removeprefix("delta+")) / "rows" / "_delta_log"
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for number, path in enumerate(sorted(log.glob("*.json"))):
        at = (start + timedelta(days=number)).timestamp()
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            if "commitInfo" in line:
                line["commitInfo"]["timestamp"] = int(1000 * at)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        os.utime(path, (at, at))
    then = store_to_cache(folder, as_of=start + timedelta(days=1, hours=1))
    assert set(latencies(then).values()) == {1.0}
    assert set(latencies(store_to_cache(folder, as_of=start + timedelta(days=2))).values()) == {2.0}


def test_tables_of_several_sources_come_in_one_as_a_merge_would_make_it(folder, make):
    store = Store(folder)
    fit = {"scope": {"space": "tiny"}, "fitted_at": "2026-11-20T00:00:00+00:00", "model": "sum"}
    later = {**fit, "fitted_at": "2026-11-21T00:00:00+00:00", "model": "scale"}
    sources = {
        make.here: {"licence": "CC-BY-4.0", "spaces": ["tiny"], "composition": [later]},
        make.there: {"licence": "CC0-1.0", "spaces": ["nb201"], "composition": [fit]},
    }
    for number, (environment, told) in enumerate(sources.items()):
        rows = [row | {"environment_id": environment} for row in batch(make, 1.0)]
        facts = {environment: make.metadata["environments"][environment]}
        store.append(
            rows, {**told, "environments": facts}, writer="w", sequence=number, name=f"n{number}"
        )
    told = load_lut(store_to_cache(folder)).metadata
    assert told["environments"] == make.metadata["environments"]
    assert told["spaces"] == ["nb201", "tiny"]
    assert told["licence"] == "CC-BY-4.0 AND CC0-1.0"
    assert told["composition"] == [later]
    rows = [make.row(make.ops[0], 5.0, environment_id=make.here, cache="evicted")]
    store.append(rows, make.metadata, writer="w", sequence=2)
    told = load_lut(store_to_cache(folder)).metadata
    assert told["licence"] == "CC-BY-4.0 AND CC0-1.0 AND NOASSERTION"


@pytest.mark.parametrize(
    ("changes", "metadata", "message"),
    [
        ({"latency_ms": -1.0}, {}, "latency_ms is -1.0"),
        ({"state": "great"}, {}, "state is 'great'"),
        ({}, {"environments": {}}, "does not describe env-here, which has rows"),
    ],
)
def test_bad_rows_are_refused_before_anything_is_written(folder, make, changes, metadata, message):
    rows = [make.row(make.ops[0]) | changes]
    with pytest.raises(LutError, match=message):
        Store(folder).append(rows, {**make.metadata, **metadata}, writer="w", sequence=0)
    assert not Path(folder.removeprefix("delta+")).exists()


WRITE = """
import json, os, signal, sys
from hwprof.lut import load_lut
from hwprof.lut.store import Store
place, table, writer = sys.argv[1:4]
batches, dies_after = map(int, sys.argv[4:])
lut = load_lut(table)
store = Store(place)
if dies_after >= 0:
    # Killed after a commit, before the writer hears of it.
    real = store.rows.append
    def killing(data, writer, sequence):
        done = real(data, writer, sequence)
        if sequence == dies_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return done
    store.rows.append = killing
last = store.last_sequence(writer)
for number in range(0 if last is None else last + 1, batches):
    done = store.append(lut.table, lut.metadata, writer=writer, sequence=number, visits=lut.visits)
    os.write(1, f"{done.batch_id} {done.new}\\n".encode())
"""


def write(place, lut, writer, batches, dies_after=-1):
    arguments = [place, str(lut.path), writer, str(batches), str(dies_after)]
    return subprocess.Popen([sys.executable, "-c", WRITE, *arguments], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_writers_at_once_lose_and_double_nothing_though_one_is_killed_after_its_commit(
    request, tmp_path, lut, kind
):
    root = str(tmp_path) if kind == "file" else request.getfixturevalue("bucket")
    place = f"delta+{root}/store"
    batches = 5 if kind == "file" else 3
    names = [f"w{number}" for number in range(3 if kind == "file" else 2)]
    writers = [write(place, lut, name, batches, 1 if name == "w1" else -1) for name in names]
    told = [writer.communicate()[0].split() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, -9, *[0] * (len(names) - 2)]
    digits = lut.metadata["visits_hash"][:8]
    assert told[1] == [f"w1/0/{digits}", "True"]
    resumed = write(place, lut, "w1", batches)
    assert resumed.communicate()[0].split()[:2] == [f"w1/2/{digits}", "True"]
    expected = {f"{name}/{number}/{digits}": len(lut) for name in names for number in range(batches)}
    store = Store(place)
    assert Counter(store.rows.query("SELECT batch_id FROM delta")["batch_id"].to_pylist()) == expected
    visits = Counter(store.visits.query("SELECT batch_id FROM delta")["batch_id"].to_pylist())
    assert visits == dict.fromkeys(expected, lut.visits.num_rows)
    assert load_lut(store_to_cache(place)).table.equals(lut.table)


def test_a_forked_process_is_refused_in_one_line(folder, make, tmp_path):
    Store(folder).append(batch(make, 1.0), make.metadata, writer="w", sequence=0)
    read, told = os.pipe()
    if not os.fork():
        try:
            Store(folder).append(batch(make, 1.0), make.metadata, writer="w", sequence=1)
        except BaseException as error:  # noqa: BLE001 - a panic is no Exception
            os.write(told, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.wait()
    message = os.read(read, 1000).decode()
    assert message.startswith("LutError: this process was forked")
    assert "\n" not in message


def test_a_commit_that_fails_though_nobody_else_commits_is_no_conflict(folder, make, monkeypatch):
    import deltalake
    from deltalake.exceptions import CommitFailedError

    store = Store(folder)
    store.append(batch(make, 1.0), make.metadata, writer="w", sequence=0)
    tries = []

    def failing(*arguments, **options):
        tries.append(1)
        raise CommitFailedError("no rights\nto do so")

    monkeypatch.setattr(deltalake, "write_deltalake", failing)
    monkeypatch.setattr(deltas, "FIRST_PAUSE_S", 0)
    with pytest.raises(LutError, match=r"cannot be written: no rights to do so; check"):
        store.append(batch(make, 2.0), make.metadata, writer="w", sequence=1)
    assert len(tries) == deltas.FRUITLESS_TRIES


def test_lost_races_are_repeated_until_won_and_counted(folder, make, monkeypatch):
    import deltalake
    from deltalake.exceptions import CommitFailedError

    store, other = Store(folder), Store(folder)
    store.append(batch(make, 1.0), make.metadata, writer="w", sequence=0)
    real, lost = deltalake.write_deltalake, []

    def overtaken(*arguments, **options):
        if len(lost) < 30:
            lost.append(1)
            monkeypatch.setattr(deltalake, "write_deltalake", real)
            other.append(batch(make, 1.0), make.metadata, writer="o", sequence=len(lost))
            monkeypatch.setattr(deltalake, "write_deltalake", overtaken)
            raise CommitFailedError("concurrent")
        return real(*arguments, **options)

    monkeypatch.setattr(deltas, "FIRST_PAUSE_S", 0)
    monkeypatch.setattr(deltalake, "write_deltalake", overtaken)
    done = store.append(batch(make, 2.0), make.metadata, writer="w", sequence=1)
    assert (done.new, done.retries) == (True, 30)
    assert list_store(folder).rows == 32 * len(make.ops)


GAP = "Kernel error: Expected contiguous commit files, but found gap: ParsedLogPath"


@pytest.mark.parametrize("committed", [True, False])
def test_a_list_of_the_log_that_others_grow_is_made_again(folder, make, monkeypatch, committed):
    """Of 8 processes with 1,000 appends each two gave up on a gap that was not there a moment later."""
    import deltalake
    from deltalake.exceptions import DeltaError

    store = Store(folder)
    store.append(batch(make, 1.0), make.metadata, writer="w", sequence=0)
    real_write, real_update = deltalake.write_deltalake, deltalake.DeltaTable.update_incremental
    writes, lists = iter([GAP]), iter([GAP, GAP])

    def write(*arguments, **options):
        failure = next(writes, None)
        if failure is None or committed:
            real_write(*arguments, **options)
        if failure:
            raise DeltaError(failure)

    def update(table):
        if failure := next(lists, None):
            raise DeltaError(failure)
        real_update(table)

    monkeypatch.setattr(deltas, "FIRST_PAUSE_S", 0)
    monkeypatch.setattr(deltalake, "write_deltalake", write)
    monkeypatch.setattr(deltalake.DeltaTable, "update_incremental", update)
    done = store.append(batch(make, 2.0), make.metadata, writer="w", sequence=1)
    assert (done.new, done.retries) == (True, 1)
    assert list_store(folder).rows == 2 * len(make.ops)


def test_compacting_beside_writers_lists_the_log_again_too(folder, make, monkeypatch):
    from deltalake.exceptions import DeltaError
    from deltalake.table import TableOptimizer

    store = Store(folder)
    for number in range(3):
        store.append(batch(make, 1.0), make.metadata, writer="w", sequence=number)
    real, gaps = TableOptimizer.compact, iter([GAP, GAP])

    def compact(optimizer, **options):
        if failure := next(gaps, None):
            raise DeltaError(failure)
        return real(optimizer, **options)

    monkeypatch.setattr(deltas, "FIRST_PAUSE_S", 0)
    monkeypatch.setattr(TableOptimizer, "compact", compact)
    assert store.compact()["rows"]["files_merged"] == 3


def test_a_log_that_lacks_a_commit_is_damaged(folder, make, monkeypatch):
    store = Store(folder)
    for number in range(4):
        store.append(batch(make, 1.0), make.metadata, writer="w", sequence=number)
    (Path(folder.removeprefix("delta+")) / "rows" / "_delta_log" / f"{2:020}.json").unlink()
    monkeypatch.setattr(deltas, "FIRST_PAUSE_S", 0)
    with pytest.raises(LutError, match=r"cannot be read: .*found gap"):
        Store(folder).append(batch(make, 1.0), make.metadata, writer="w", sequence=4)


def test_small_files_are_merged_as_the_store_grows(folder, make, monkeypatch):
    monkeypatch.setattr(deltas, "COMPACT_EVERY", 8)
    store = Store(folder)
    for number in range(20):
        store.append(batch(make, 1.0 + number), make.metadata, writer="w", sequence=number)
    told = list_store(folder)
    assert told.rows == 20 * len(make.ops)
    assert told.files < 8
    assert [version["operation"] for version in told.versions].count("optimize") == 1
    assert store.last_sequence("w") == 19
    assert len(store.rows.query("SELECT DISTINCT batch_id FROM delta")) == 20


def test_compacting_forgets_only_what_it_is_told_to(folder, make, run):
    store = Store(folder)
    for number in range(3):
        store.append(batch(make, 1.0 + number), make.metadata, writer="w", sequence=number)
    rows = Path(folder.removeprefix("delta+")) / "rows"
    orphan = rows / "part-00000-00000000-0000-0000-0000-000000000000-c000.snappy.parquet"
    orphan.write_bytes(b"left by a writer that was killed long ago")
    os.utime(orphan, (0, 0))
    done = json.loads(run("compact", folder, "--json").stdout)
    assert done["rows"] == {"files_merged": 3, "files_made": 1, "files_removed": 0}
    assert orphan.exists()
    assert "rows: 0 files merged into 0, 1 removed" in run("compact", folder, "--forget", 7).stdout
    assert not orphan.exists()
    assert set(latencies(store_to_cache(folder, version=1)).values()) == {1.0}
    assert run("compact", folder, "--forget", 6).exit_code == 2


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path, make):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {os.strerror(errno.EPERM)}")
    try:
        store = Store(f"{disk}/store")
        said, number = "", 0
        while not said:
            try:
                store.append(batch(make, 1.0), make.metadata, writer="w", sequence=number)
                number += 1
            except LutError as error:
                said = str(error)
        assert "No space left on device" in said
        assert "\n" not in said
        assert number > 3
        found = Store(f"{disk}/store")
        assert found.last_sequence("w") == number - 1
        assert len(found.rows.query("SELECT op_id FROM delta")) == number * len(make.ops)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_what_is_no_store_is_told(folder, make, tmp_path):
    import deltalake

    for call in (store_to_cache, list_store, lambda place: Store(place).compact()):
        with pytest.raises(LutError, match="holds no store; hwprof lut push TABLE delta"):
            call(folder)
    assert not Path(folder.removeprefix("delta+")).exists()
    deltalake.write_deltalake(tmp_path / "other" / "rows", pa.table({"a": [1]}))
    with pytest.raises(LutError, match="is a Delta table of another kind"):
        list_store(str(tmp_path / "other"))
    with pytest.raises(LutError, match="is a Delta table of another kind"):
        Store(str(tmp_path / "other")).append(batch(make, 1.0), make.metadata, writer="w", sequence=0)


def test_offline_a_store_elsewhere_is_read_from_the_cache_alone(bucket, lut, monkeypatch):
    place = f"delta+{bucket}/store"
    push_to_store(str(lut.path), place)
    with pytest.raises(LutError, match="is not in the cache"):
        store_to_cache(place, offline=True)
    kept = store_to_cache(place)
    monkeypatch.setenv("HWPROF_OFFLINE", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert store_to_cache(place) == local_table(place) == kept
    for call in (lambda: list_store(place), lambda: push_to_store(str(lut.path), place)):
        with pytest.raises(LutError, match="HWPROF_OFFLINE is set"):
            call()


@pytest.mark.parametrize("url", ["memory://x/store", "http://127.0.0.1/store"])
def test_a_place_that_deltalake_cannot_write_is_told(url):
    with pytest.raises(LutError, match=r"a store cannot be at .*: give a path, or a URL of s3, "):
        Store(f"delta+{url}")


def test_a_store_of_a_newer_format_is_refused(folder, make, monkeypatch):
    for module in (deltas, checks):
        monkeypatch.setattr(module, "FORMAT", 2)
    Store(folder).append(batch(make, 1.0), make.metadata, writer="w", sequence=0)
    monkeypatch.undo()
    with pytest.raises(LutError, match=r"is of store format 2, this hwprof reads 1; upgrade hwprof"):
        list_store(folder)


@pytest.mark.parametrize("path", ["/etc/passwd", "../../../secret.parquet", "file:///etc/passwd"])
def test_a_log_that_names_files_elsewhere_is_refused(folder, make, path):
    store = Store(folder)
    store.append(batch(make, 1.0), make.metadata, writer="w", sequence=0)
    log = Path(folder.removeprefix("delta+")) / "rows" / "_delta_log" / f"{1:020}.json"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        if "add" in line:
            line["add"]["path"] = path
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(LutError, match=r"which is not in its folder|cannot be read"):
        store_to_cache(folder)


def stranger(folder, part, table):
    """Append to a table of a store past hwprof."""
    import deltalake

    deltalake.write_deltalake(
        f"{folder.removeprefix('delta+')}/{part}", table, mode="append", schema_mode="merge"
    )


@pytest.mark.parametrize(
    "text", ["", "no json", "[]", '{"name": 1}', '{"name": "x"}', '{"name": "\x1b"}']
)
def test_a_source_that_a_stranger_wrote_wrongly_is_one_line(folder, make, text):
    store = Store(folder)
    store.append(batch(make, 1.0), make.metadata, writer="w", sequence=0)
    row = {"source_id": "x", "source": text, "pushed_at": datetime.now(UTC)}
    stranger(folder, "sources", pa.Table.from_pylist([row]))
    for call in (store_to_cache, list_store):
        with pytest.raises(LutError, match="is damaged: a source in it is wrong") as caught:
            call(folder)
        assert str(caught.value).isprintable()


def test_rows_that_a_stranger_wrote_wrongly_are_one_line(folder, make):
    store = Store(folder)
    store.append(batch(make, 1.0), make.metadata, writer="w", sequence=0)
    rows = store.rows.query("SELECT * FROM delta")
    for name, value in (("latency_ms", -1.0), ("batch_id", "z")):
        place = rows.column_names.index(name)
        rows = rows.set_column(place, name, pa.array([value] * rows.num_rows))
    stranger(folder, "rows", rows)
    with pytest.raises(LutError, match=r"latency_ms is -1\.0"):
        store_to_cache(folder)


def test_a_version_without_rows_is_an_empty_table(folder, make):
    Store(folder).append(batch(make, 1.0), make.metadata, writer="w", sequence=0)
    table = load_lut(store_to_cache(folder, version=0))
    assert (len(table), table.metadata["licence"]) == (0, None)


def test_the_commands_work_on_a_store(folder, lut, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pushed = json.loads(run("push", lut.path, folder, "--name", "phone", "--json").stdout)
    assert (pushed["new"], pushed["version"]) == (True, 1)
    assert "(was there already)" in run("push", lut.path, folder, "--name", "phone").stdout
    text = run("list", folder).stdout
    assert text.splitlines()[0] == f"version 1: {len(lut)} rows in 1 files"
    assert text.splitlines()[2].split()[:3] == ["phone", str(len(lut)), "1"]
    told = json.loads(run("list", folder, "--json").stdout)
    assert (told["rows"], told["sources"][0]["name"]) == (len(lut), "phone")
    assert run("pull", folder).stdout.startswith("store.parquet: ")
    assert load_lut("store.parquet").table.equals(lut.table)
    run("pull", folder, "--version", 1, "--out", "then.parquet")
    assert load_lut("then.parquet").table.equals(lut.table)
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds")
    run("pull", folder, "--as-of", soon, "--out", "soon.parquet")
    assert load_lut("soon.parquet").table.equals(lut.table)
    assert run("list", folder, "--offline").exit_code == 2
    assert load_lut(local_table(folder)).table.equals(lut.table)
