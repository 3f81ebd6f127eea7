"""What survives: builds that are killed, interrupted, out of disk or out of time, and go on."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from hwprof.build import build_lut, make_plan
from hwprof.build.pipeline import work_folder
from hwprof.build.progress import Progress
from hwprof.errors import BackendUnavailable, BuildError, LutError
from hwprof.lut import load_lut
from hwprof.space import load_space


def rows_of(path):
    return load_lut(path).table.to_pylist()


class Killed(Exception):
    pass


def start_build(tmp_path, out, *extra):
    command = ["build-lut", "--backend", "simulated", "--target", "two-speed", "--space", "tiny"]
    return subprocess.Popen(
        [sys.executable, "-m", "hwprof", *command, "--out", str(out), *extra],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def wait_for_visits(out, count):
    """Until the journal holds so many visits (bounded; no clock decides the outcome)."""
    journal = work_folder(out) / "journal"
    for _ in range(6000):
        if (
            journal.exists()
            and journal.read_bytes().count(b'"type": "visit"')
            + journal.read_bytes().count(b'"type":"visit"')
            >= count
        ):
            return
        time.sleep(0.005)
    raise AssertionError("the build made no visits")


def test_kill_9_loses_at_most_the_visit_in_flight_and_the_same_command_resumes(tmp_path):
    out = tmp_path / "lut.parquet"
    build = start_build(tmp_path, out)
    wait_for_visits(out, 30)
    os.killpg(build.pid, signal.SIGKILL)
    build.communicate()
    assert not out.exists()
    assert not list(tmp_path.glob("*.partial"))
    again = start_build(tmp_path, out)
    _, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    reused = int(errors.split("resuming: ")[1].split()[0])
    assert reused >= 30
    assert len(rows_of(out)) == len(load_space("tiny").ops())
    assert not work_folder(out).exists()


def test_ctrl_c_seals_what_is_there_and_the_same_command_goes_on(tmp_path):
    out = tmp_path / "lut.parquet"
    build = start_build(tmp_path, out)
    wait_for_visits(out, 30)
    build.send_signal(signal.SIGINT)
    printed, errors = build.communicate(timeout=60)
    assert build.returncode == 130, errors
    assert "run the same command again" in printed
    sealed = rows_of(out)
    assert sealed
    assert all(row["state"] in ("budget", "unstable", "converged") for row in sealed)
    again = start_build(tmp_path, out, "--json")
    printed, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert "resuming" in errors
    assert not [row for row in rows_of(out) if (row["reason"] or "").startswith("interrupted")]
    assert len(rows_of(out)) == len(load_space("tiny").ops())


def test_second_build_of_the_same_table_is_refused_while_the_first_runs(options):
    folder = work_folder(options.out)
    folder.mkdir()
    code = (
        "import sys; from hwprof.lut import Journal\n"
        f"with Journal.create({str(folder / 'journal')!r}, {{}}):\n"
        "    print('held', flush=True)\n    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BuildError, match=f"being written by the process with pid {holder.pid}"):
            build_lut(options)
        holder.stdin.close()


def test_full_disk_is_one_line_and_what_was_measured_is_kept(options, monkeypatch, capsys):
    """The journal's write fails after 20 visits, as on a full disk; the next build goes on with them."""
    import hwprof.lut.journal as journal_module

    real_write, written = os.write, []

    def write(descriptor, data):
        if b'"visit"' in bytes(data):
            written.append(1)
            if len(written) > 20:
                raise OSError(28, "No space left on device")
        return real_write(descriptor, data)

    monkeypatch.setattr(journal_module.os, "write", write)
    with pytest.raises(LutError, match="No space left on device"):
        build_lut(options)
    monkeypatch.setattr(journal_module.os, "write", real_write)
    assert not options.out.exists()
    build_lut(options, Progress())
    assert "resuming: 20 visits" in capsys.readouterr().err
    assert len(rows_of(options.out)) == len(load_space("tiny").ops())


def test_truncated_journal_keeps_its_good_lines(options, capsys):
    interrupt_after(options, 25)
    journal = work_folder(options.out) / "journal"
    journal.write_bytes(journal.read_bytes()[:-40])
    build_lut(options, Progress())
    assert "resuming: 24 visits" in capsys.readouterr().err
    assert len(rows_of(options.out)) == len(load_space("tiny").ops())


def test_damaged_line_of_a_journal_is_told_and_costs_that_line(options, capsys):
    interrupt_after(options, 25)
    journal = work_folder(options.out) / "journal"
    content = bytearray(journal.read_bytes())
    content[content.rindex(b"cpu_share")] ^= 1
    journal.write_bytes(content)
    build_lut(options, Progress())
    told = capsys.readouterr().err
    assert "1 damaged lines are left out" in told
    assert "resuming: 24 visits" in told


def test_garbage_for_a_journal_is_an_error_and_stays_as_it_is(options):
    folder = work_folder(options.out)
    folder.mkdir()
    (folder / "journal").write_bytes(b"\x00\xff not a journal")
    with pytest.raises(LutError):
        build_lut(options)
    assert (folder / "journal").read_bytes() == b"\x00\xff not a journal"


def test_unfinished_build_with_other_settings_is_sealed_first(options):
    interrupt_after(options, 25)
    build_lut(replace(options, cache="evicted"))
    states = {(row["cache"], row["reason"].startswith("interrupted")) for row in rows_of(options.out)}
    assert states == {("warm", True), ("evicted", False)}


def interrupt_after(options, visits):
    """Run a build in this process that is killed, as by SIGKILL, after so many visits."""
    from hwprof.build import resume

    class Killing(resume.Records):
        made = 0

        def visited(self, row, made):
            super().visited(row, made)
            Killing.made += 1
            if Killing.made == visits:
                raise Killed

    original = resume.Records
    resume.Records = Killing
    try:
        with pytest.raises(Killed):
            build_lut(options)
    finally:
        resume.Records = original


def test_time_budget_ends_the_build_and_a_build_without_one_finishes_it(options):
    report = build_lut(replace(options, budget_s=1e-6))
    assert report.out_of_time
    assert report.unfinished == len(load_space("tiny").ops())
    assert not options.out.exists()
    finished = build_lut(options)
    assert (finished.unfinished, finished.out_of_time) == (0, False)
    assert len(rows_of(options.out)) == len(load_space("tiny").ops())


def test_rows_cut_short_by_a_budget_say_so_and_are_improved_later(options, capsys):
    """Rounds shrink to the budget; what does not agree by then is not final."""
    noisy = replace(options, target="unstable", effort="normal")
    assert build_lut(replace(noisy, budget_s=2.0)).unfinished
    first = {row["op_id"]: row for row in rows_of(options.out)}
    assert all(row["reason"].startswith("time budget") for row in first.values())
    build_lut(noisy, Progress())
    assert "resuming" in capsys.readouterr().err
    for row in rows_of(options.out):
        assert row["visits"] > first[row["op_id"]]["visits"]
        assert not row["reason"].startswith("time budget")


def test_killed_fresh_build_never_replaces_finished_rows(options):
    """A --fresh build killed after 25 visits once turned ten converged rows into unstable ones."""
    build_lut(options)
    before = rows_of(options.out)
    interrupt_after(replace(options, fresh=True, seed=1), 25)
    assert build_lut(options).measured == 0
    assert rows_of(options.out) == before


def test_killed_fresh_build_goes_on_when_started_again_as_fresh(options, capsys):
    build_lut(options)
    before = {row["build_id"] for row in rows_of(options.out)}
    fresh = replace(options, fresh=True, seed=1)
    interrupt_after(fresh, 25)
    build_lut(fresh, Progress())
    assert "resuming: 25 visits" in capsys.readouterr().err
    assert {row["build_id"] for row in rows_of(options.out)}.isdisjoint(before)


def test_limit_after_a_kill_leaves_the_other_rows_unfinished_not_final(options):
    interrupt_after(options, 25)
    report = build_lut(replace(options, limit=2))
    assert report.unfinished > 0
    build_lut(options)
    rows = rows_of(options.out)
    assert len(rows) == len(load_space("tiny").ops())
    assert not [row for row in rows if row["reason"].startswith("interrupted")]


def test_unfinished_build_of_another_space_keeps_its_name_and_its_doubts(options):
    interrupt_after(replace(options, space="nb201"), 25)
    build_lut(options)
    table = load_lut(options.out)
    assert table.metadata["spaces"] == ["nb201", "tiny"]
    for row in table.table.to_pylist():
        of_nb201 = row["space"] == "nb201"
        assert row["reason"].startswith("interrupted") == of_nb201
        assert of_nb201 == (row["op_id"] not in {op.op_id for op in load_space("tiny").ops()})


def test_changed_effort_does_not_go_on_with_rows_of_a_looser_one(options, capsys):
    options = replace(options, target="exact")
    interrupt_after(options, 25)
    build_lut(replace(options, effort="normal", rel_precision=0.02), Progress())
    assert "sealed first" in capsys.readouterr().err
    assert {row["reason"] for row in rows_of(options.out)} == {"visits and processes agree within 2.0%"}


def test_seal_killed_between_its_two_renames_is_made_good_by_the_next_build(options, monkeypatch):
    """The visits are newer than the table then; every later build once failed on the hash."""
    import hwprof.lut.write as write_module

    build_lut(replace(options, limit=4))
    real_replace, calls = os.replace, []

    def one_replace(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real_replace(source, target)

    monkeypatch.setattr(write_module.os, "replace", one_replace)
    with pytest.raises(KeyboardInterrupt):
        build_lut(options)
    monkeypatch.setattr(write_module.os, "replace", real_replace)
    build_lut(options)
    table = load_lut(options.out)
    assert len(table) == len(load_space("tiny").ops())
    assert set(table.visits.column("op_id").to_pylist()) == {r["op_id"] for r in rows_of(options.out)}


def test_table_without_its_visits_file_can_be_built_on(options):
    build_lut(replace(options, limit=4))
    (options.out.parent / "lut.visits.parquet").unlink()
    build_lut(options)
    assert len(rows_of(options.out)) == len(load_space("tiny").ops())


def test_failed_row_of_an_unfinished_build_is_measured_again_when_asked(faulty, options):
    options = replace(options, backend="faulty", target="raise", limit=7)
    interrupt_after(options, 5)
    again = build_lut(replace(options, retry_failed=True, target="raise"))
    assert again.failed
    notes = []
    interrupt_after(replace(options, fresh=True), 5)

    class Noting(Progress):
        def note(self, text):
            notes.append(text)

    build_lut(replace(options, fresh=True, retry_failed=True), Noting(quiet=True))
    assert sum(note.startswith("failed: ") for note in notes) == again.failed


def test_worker_that_cannot_start_stops_the_build_and_blames_no_row(faulty, options, monkeypatch):
    """The backend is known here but not in worker processes, as with a broken installation."""
    monkeypatch.setenv("PYTHONPATH", "")
    with pytest.raises(BackendUnavailable, match=r"backend .faulty. is unknown"):
        build_lut(replace(options, backend="faulty", target="none"))
    assert not options.out.exists()


def test_foreign_file_in_the_place_of_the_visits_is_refused_before_anything_is_measured(options):
    (options.out.parent / "lut.visits.parquet").write_text("my notes")
    with pytest.raises(LutError, match="will not overwrite"):
        make_plan(options)


def test_a_failure_in_a_second_build_once_replaced_numbers_and_deleted_their_visits(options):
    options = replace(options, target="unstable")
    build_lut(options)
    before = rows_of(options.out), load_lut(options.out).visits
    unstable = sum(row["state"] == "unstable" for row in before[0])
    assert unstable
    notes = []

    class Noting(Progress):
        def note(self, text):
            notes.append(text)

    build_lut(replace(options, retry_failed=True, compile_timeout_s=1e-9), Noting(quiet=True))
    assert (rows_of(options.out), load_lut(options.out).visits) == before
    assert any(note.startswith(f"{unstable} failed where the table has a number") for note in notes)
