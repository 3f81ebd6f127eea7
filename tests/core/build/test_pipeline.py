"""A build from space to sealed table, on backends without a clock."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hwprof.backends.backend import Target
from hwprof.backends.simulated import SimulatedBackend, true_latency_ms
from hwprof.build import BuildOptions, build_lut, make_plan
from hwprof.build.pipeline import work_folder
from hwprof.build.progress import Progress
from hwprof.errors import BackendUnavailable, BuildError, HwprofError, LutError
from hwprof.lut import load_lut
from hwprof.ops import OpSpec
from hwprof.space import load_space


@pytest.fixture
def options(tmp_path):
    return BuildOptions("simulated", "tiny", tmp_path / "lut.parquet", target="quiet", effort="fast")


def rows_of(path):
    return load_lut(path).table.to_pylist()


def test_every_op_of_the_space_gets_one_row_near_its_true_latency(options):
    report = build_lut(options)
    rows = rows_of(options.out)
    assert {row["op_id"] for row in rows} == {op.op_id for op in load_space("tiny").ops()}
    assert report.measured == len(rows)
    for row in rows:
        truth = true_latency_ms(OpSpec.from_json(row["op_json"]).lower())
        assert row["latency_ms"] == pytest.approx(truth, rel=0.03)
        assert row["min_ms"] <= row["p10_ms"] <= row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
    assert not work_folder(options.out).exists()


def test_noise_without_end_is_never_called_converged(options):
    build_lut(replace(options, target="unstable"))
    states = [row["state"] for row in rows_of(options.out)]
    assert states.count("unstable") > len(states) / 2
    assert states.count("converged") == 0


def test_without_noise_every_row_converges_on_the_truth(options):
    build_lut(replace(options, target="exact", effort="normal"))
    for row in rows_of(options.out):
        truth = true_latency_ms(OpSpec.from_json(row["op_json"]).lower())
        assert row["state"] == "converged"
        assert row["latency_ms"] == pytest.approx(truth, rel=1e-4)


def test_second_pass_uses_new_processes_and_is_marked(options):
    build_lut(replace(options, target="two-speed", effort="normal", rel_precision=0.001))
    visits = load_lut(options.out).visits.to_pylist()
    first = {v["process"] for v in visits if v["phase"] == 1}
    second = {v["process"] for v in visits if v["phase"] == 2}
    assert first == {0, 1, 2, 3, 4, 5}
    assert second == {6, 7, 8, 9, 10, 11}


def test_rows_that_are_there_are_not_measured_again(options):
    build_lut(options)
    before = rows_of(options.out)
    report = build_lut(options)
    assert (report.measured, report.present) == (0, len(before))
    assert rows_of(options.out) == before


def test_limit_measures_some_now_and_the_rest_later(options):
    build_lut(replace(options, limit=3))
    assert len(rows_of(options.out)) == 3
    build_lut(options)
    assert len(rows_of(options.out)) == len(load_space("tiny").ops())


def test_fresh_measures_anew_under_a_new_build_id(options):
    build_lut(options)
    first = {row["build_id"] for row in rows_of(options.out)}
    build_lut(replace(options, fresh=True, seed=1))
    second = {row["build_id"] for row in rows_of(options.out)}
    assert len(first) == len(second) == 1
    assert first != second


def test_dry_run_counts_and_writes_nothing(options):
    plan = make_plan(options)
    assert plan.summary()["to_measure"] == len(load_space("tiny").ops())
    assert plan.expected_minutes > 0
    assert list(options.out.parent.iterdir()) == []


def test_same_seed_gives_the_same_table(options, tmp_path):
    other = replace(options, out=tmp_path / "other.parquet")
    build_lut(options)
    build_lut(other)
    values = [
        [(r["op_id"], r["latency_ms"], r["visits"]) for r in rows_of(o.out)] for o in (options, other)
    ]
    assert values[0] == values[1]


def test_replaying_recorded_visits_repeats_every_decision(options, tmp_path):
    options = replace(options, target="two-speed", effort="normal")
    build_lut(options)
    recording = tmp_path / "lut.visits.parquet"
    replayed = replace(options, backend="replay", target=str(recording), out=tmp_path / "again.parquet")
    build_lut(replayed)
    keys = ("op_id", "state", "reason", "visits", "processes")
    first, second = ([[r[k] for k in keys] for r in rows_of(o.out)] for o in (options, replayed))
    assert first == second
    for a, b in zip(rows_of(options.out), rows_of(replayed.out), strict=True):
        assert a["latency_ms"] == pytest.approx(b["latency_ms"], rel=1e-4)


def test_kept_rows_of_another_space_stay(options):
    build_lut(options)
    before = {row["op_id"] for row in rows_of(options.out)}
    build_lut(replace(options, space="nb201"))
    table = load_lut(options.out)
    assert before < {row["op_id"] for row in table.table.to_pylist()}
    assert table.metadata["spaces"] == ["nb201", "tiny"]


@pytest.mark.parametrize(
    ("fault", "state", "reason"),
    [
        ("segfault", "failed", "SIGSEGV"),
        ("leave", "failed", "exit code 3"),
        ("raise", "failed", "the compiler gave up on this op"),
        ("nan", "failed", "NaN"),
        ("denormal", "failed", "denormals"),
        ("huge", "failed", "limit"),
        ("shape", "failed", "shape"),
        ("hang", "timeout", "no answer within"),
        ("segfault-in-visit", "failed", "SIGSEGV"),
        ("hang-in-visit", "timeout", "no answer within"),
    ],
)
def test_fault_costs_its_own_rows_and_the_build_goes_on(faulty, options, fault, state, reason):
    report = build_lut(replace(options, backend="faulty", target=fault, op_timeout_s=1.5, limit=7))
    strided = {True: [], False: []}
    for row in rows_of(options.out):
        strided[row["stride"] == 2].append(row)
    assert strided[True], "the space has no strided op among the first four"
    assert strided[False]
    for row in strided[True]:
        assert row["state"] == state
        assert reason in row["reason"]
        assert row["latency_ms"] is None
    assert all(row["latency_ms"] > 0 for row in strided[False])
    assert report.failed == len(strided[True])


def test_runtime_that_prints_to_stdout_does_not_garble_the_answers(faulty, options):
    build_lut(replace(options, backend="faulty", target="print", limit=3))
    assert all(row["latency_ms"] > 0 for row in rows_of(options.out))


def test_worker_that_outgrows_its_memory_is_killed_and_costs_one_row(faulty, options, monkeypatch):
    from hwprof.measure import executor

    small = executor.Limits(op_timeout_s=30.0, memory_bytes=300 << 20)
    options = replace(options, backend="faulty", target="hoard-in-visit", limit=7)
    made = lambda o, folder: executor.LocalExecutor(  # noqa: E731
        o.backend, o.resolved_target(), 1, o.dtype, folder / "worker.log", small
    )
    build_lut(options, executor=made)
    failed = [row for row in rows_of(options.out) if row["state"] == "failed"]
    assert failed
    assert all("more than its limit" in row["reason"] for row in failed)


def test_failed_rows_are_measured_again_only_when_asked(faulty, options):
    options = replace(options, backend="faulty", target="raise", limit=4)
    assert build_lut(options).failed
    measured = build_lut(replace(options, limit=None)).measured
    assert measured == len(load_space("tiny").ops()) - 4
    assert build_lut(options).measured == 0
    assert build_lut(replace(options, retry_failed=True)).failed


def test_changed_environment_is_told_and_never_mixed_in(faulty, options, monkeypatch, capsys):
    options = replace(options, backend="faulty", target="none", limit=2)
    build_lut(options)
    monkeypatch.setenv("FAULTY_FLAVOUR", "new")
    build_lut(options, Progress())
    assert "2 rows of environment" in capsys.readouterr().err
    table = load_lut(options.out)
    assert len(table) == 4
    with pytest.raises(LutError, match="environment"):
        table.find(load_space("tiny").ops()[0])


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
    with pytest.raises(BuildError, match=r"a worker process cannot start.*faulty"):
        build_lut(replace(options, backend="faulty", target="none"))
    assert not options.out.exists()


def test_foreign_file_in_the_place_of_the_visits_is_refused_before_anything_is_measured(options):
    (options.out.parent / "lut.visits.parquet").write_text("my notes")
    with pytest.raises(LutError, match="will not overwrite"):
        make_plan(options)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"backend": "nope"}, BackendUnavailable, "choose of"),
        ({"space": "nope"}, HwprofError, "s3nas"),
        ({"dtype": "int7"}, BuildError, "int7.*choose of float32"),
        ({"threads": 0}, BuildError, "threads 0 is not in 1.."),
        ({"threads": 4096}, BuildError, "threads 4096 is not in 1.."),
        ({"batch": 0}, BuildError, "batch must be more than 0"),
        ({"limit": 0}, BuildError, "limit must be more than 0"),
        ({"seed": -1}, BuildError, "seed"),
        ({"effort": "extreme"}, BuildError, "fast, normal, rigorous"),
        ({"rel_precision": 2.0}, BuildError, "rel-precision"),
        ({"cache": "lukewarm"}, BuildError, "warm, in_chain, evicted"),
        ({"target": "gpu"}, BuildError, "choose of exact"),
        ({"backend": "replay", "target": ""}, BuildError, "needs --target"),
        ({"backend": "replay", "target": "missing.parquet"}, BackendUnavailable, "visits file"),
        ({"out": Path("lut.csv")}, BuildError, "does not end in .parquet"),
        ({"out": Path("no/such/folder/lut.parquet")}, BuildError, "does not exist"),
    ],
)
def test_bad_option_is_one_line_with_value_and_allowed_values(options, change, error, message):
    with pytest.raises(error, match=message) as caught:
        make_plan(replace(options, **change))
    assert "\n" not in str(caught.value)


def test_out_that_is_a_folder_is_refused(options, tmp_path):
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(BuildError, match="is a folder"):
        build_lut(replace(options, out=tmp_path / "folder.parquet"))


def test_another_kind_of_parquet_is_never_overwritten(options):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1]}), options.out)
    before = options.out.read_bytes()
    with pytest.raises(LutError, match="another kind"):
        build_lut(options)
    assert options.out.read_bytes() == before
    assert not work_folder(options.out).exists()


def test_simulated_backend_refuses_what_it_cannot_price(tmp_path, monkeypatch):
    from hwprof.errors import UnsupportedOp
    from hwprof.graph import GraphBuilder

    builder = GraphBuilder()
    graph = builder.build(builder.onnx(builder.input((1, 2, 3, 3)), "0" * 64, (1, 2, 3, 3)))
    with pytest.raises(UnsupportedOp):
        SimulatedBackend().compile(graph, Target("exact"))


def test_build_without_a_terminal_prints_plain_lines(hwprof_command, tmp_path):
    done = hwprof_command(
        "build-lut", "--backend", "simulated", "--space", "tiny", "--out", "lut.parquet",
        "--effort", "fast", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["measured"] == len(load_space("tiny").ops())
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr
