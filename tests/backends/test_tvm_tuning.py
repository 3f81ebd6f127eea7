"""MetaSchedule's records: kept, shared between ops, taken up after a kill, mended when damaged."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hwprof import ops
from hwprof.backends import tvm_search, tvm_tuning
from hwprof.backends.backend import Target
from hwprof.backends.conformance import opened, outputs_of
from hwprof.backends.tvm import TvmBackend
from hwprof.backends.tvm_database import TuningDatabase
from hwprof.backends.tvm_library import import_graph
from hwprof.backends.tvm_target import resolve_target
from hwprof.errors import BackendError, BackendUnavailable

pytest.importorskip("tvm", reason="apache-tvm is not installed")
for package in tvm_tuning.PACKAGES:
    pytest.importorskip(package, reason=f"MetaSchedule needs {package}")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no file locks")

BATCH, POPULATION, TRIALS = 2, 8, 4
CONV = ops.conv((1, 4, 8, 8), 4, 3)
START_LIMIT_S = 120
RECORDS = "*/*/database_tuning_record.json"
ENDLESS = f"""
import sys
from hwprof import ops
from hwprof.backends import tvm_search
from hwprof.backends.backend import Target
from hwprof.backends.tvm import TvmBackend
tvm_search.BATCH, tvm_search.POPULATION = {BATCH}, {POPULATION}
options = {{"tuning": "metaschedule", "trials": "100000", "database": sys.argv[1]}}
TvmBackend().compile(ops.conv((1, 4, 8, 8), 4, 3).lower(), Target("llvm", 1, "float32", options))
"""


def target(root, **changed):
    options = {"tuning": "metaschedule", "trials": str(TRIALS), "database": str(root), **changed}
    return Target("llvm", 1, "float32", options)


def record_lines(root):
    return {path: path.read_bytes() for path in sorted(Path(root).glob(RECORDS))}


def count(root):
    return sum(content.count(b"\n") for content in record_lines(root).values())


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The database of a tuning that was killed after its first batch, with half a line at its end."""
    root = tmp_path_factory.mktemp("killed")
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(root)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while count(root) < BATCH:
            assert process.poll() is None, "the tuning ended by itself"
            assert time.monotonic() < deadline, "no record came"
            time.sleep(0.05)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        printed, _ = process.communicate()
    assert printed == b""
    return root


@pytest.fixture(scope="module")
def resumed(killed):
    """The same op again in this process: root, records that were whole before, and its artifact."""
    (path,) = killed.glob(RECORDS)
    whole = path.read_bytes()
    whole = whole[: whole.rindex(b"\n") + 1]
    trials = whole.count(b"\n") + TRIALS
    path.write_bytes(whole + b'[0, [[[["SampleCategorical", ["v')
    (path.parent.parent / "building-left").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tvm_search, "BATCH", BATCH)
        patch.setattr(tvm_search, "POPULATION", POPULATION)
        artifact = TvmBackend().compile(CONV.lower(), target(killed, trials=str(trials)))
    return killed, whole, trials, artifact


def test_a_killed_tuning_goes_on_where_it_stopped(resumed):
    root, before, _, artifact = resumed
    (content,) = record_lines(root).values()
    assert content.startswith(before)
    assert content.count(b"\n") - before.count(b"\n") == artifact.metadata["measured_candidates"]
    assert 0 < artifact.metadata["measured_candidates"] <= TRIALS
    assert not list(root.glob("*/building-*"))


def test_the_row_says_how_it_was_tuned(resumed):
    root, _, trials, artifact = resumed
    (folder,) = root.iterdir()
    name = (folder / "name").read_text().strip()
    expected = f"metaschedule, {trials} trials a task, 1 task, {count(root)} candidates, database {name}"
    assert artifact.metadata["tuning"] == expected
    assert (folder / "target.txt").read_text() == str(artifact.metadata["target_text"]) + "\n"


def test_a_row_of_few_trials_takes_nothing_from_a_longer_tuning_in_the_same_database(resumed, tmp_path):
    """The best of 1000 candidates once stood in a row that said 64. Here the longer tuning alone found
    candidates that run."""
    root, few, unbuilt_s = tmp_path / "longer", 2, 1e10
    shutil.copytree(resumed[0], root)
    (path,) = root.glob(RECORDS)
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    for number, line in enumerate(lines):
        line[1][1] = [unbuilt_s if number < few else 1e-6]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    texts = {}
    for trials in (few, len(lines)):
        artifact = TvmBackend().compile(CONV.lower(), target(root, trials=str(trials)))
        assert artifact.metadata["measured_candidates"] == 0
        texts[trials] = str(artifact.metadata["tuning"])
    assert "no candidate ran" not in texts[len(lines)]
    assert texts[few].endswith("; no candidate ran for 1 of them")
    assert f", {few} trials a task, 1 task, {few} candidates, " in texts[few]


def test_two_databases_of_one_target_have_two_names_in_the_row(tmp_path):
    texts = []
    for folder in ("here", "there", "here"):
        tuned = target(tmp_path / folder, tuning_seconds="0.000001")
        texts.append(str(TvmBackend().compile(CONV.lower(), tuned).metadata["tuning"]))
    assert texts[0] == texts[2] != texts[1]
    assert not [text for text in texts if "/" in text]


def test_the_name_of_a_database_is_made_anew_where_its_file_is_damaged(tmp_path):
    database = TuningDatabase(tmp_path, "0.27", resolve_target("llvm", 1))
    with database.locked():
        names = {database.name(), database.name()}
        for damaged in (b"", b"\xff\xfe", b"../../etc"):
            (database.folder / "name").write_bytes(damaged)
            names.add(database.name())
    assert len(names) == 4
    assert {len(name) for name in names} == {8}


@pytest.mark.parametrize("batches", [1, 2])
def test_when_time_runs_out_in_a_batch_the_tuning_ends_after_it(batches, tmp_path, monkeypatch):
    """In the last batch of a task, TVM's scheduler once failed the row with an internal error."""
    monkeypatch.setattr(tvm_search, "BATCH", BATCH)
    monkeypatch.setattr(tvm_search, "POPULATION", POPULATION)
    for module in (tvm_search, tvm_tuning):
        monkeypatch.setattr(module, "is_over", lambda deadline: count(tmp_path) >= BATCH)
    tuned = target(tmp_path, trials=str(batches * BATCH), tuning_seconds="3600")
    artifact = TvmBackend().compile(CONV.lower(), tuned)
    assert artifact.metadata["measured_candidates"] == count(tmp_path) == BATCH
    said = "time was up for 1 of them" in str(artifact.metadata["tuning"])
    assert said == (batches > 1)


def test_ops_that_share_a_task_measure_it_once(resumed, capfd, tmp_path, monkeypatch):
    root, _, trials, _ = resumed
    before = record_lines(root)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    tuned = target(root, trials=str(trials))
    chain = ops.lower([CONV, CONV])
    with opened(TvmBackend(), chain, tuned) as session:
        results, expected = outputs_of(session, chain)
        assert session.placement() == {"llvm": 2}
    assert abs(results[0] - expected[0]).max() < 1e-4
    assert record_lines(root) == before
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().out == ""


def test_tuned_kernels_are_other_code_than_the_default(resumed):
    _, _, _, artifact = resumed
    plain = TvmBackend().compile(CONV.lower(), Target("llvm"))
    assert "tuning" not in plain.metadata
    assert plain.data != artifact.data


def test_damaged_records_are_left_out_and_the_rest_serves(resumed, tmp_path, caplog):
    root = resumed[0]
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    (path,) = copy.glob(RECORDS)
    lines = path.read_bytes().splitlines(keepends=True)
    damage = [b"\x00\xff\n", b"[1]\n", b"[0, []]\n", b'[0, [[], ["soon"]]]\n']
    path.write_bytes(damage[0] + lines[0] + b"".join(damage[1:]) + b"".join(lines[1:]))
    artifact = TvmBackend().compile(CONV.lower(), target(copy, trials=str(len(lines))))
    assert artifact.metadata["measured_candidates"] == 0
    assert path.read_bytes() == b"".join(lines)
    assert "4 damaged records left out" in caplog.text


def test_a_damaged_workload_costs_its_task_alone(resumed, tmp_path, caplog):
    root = resumed[0]
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    (path,) = copy.glob(RECORDS)
    (path.parent / "database_workload.json").write_bytes(b'["0x12')
    database = TuningDatabase(copy, TvmBackend.probe().version, resolve_target("llvm", 1))
    assert database.records(path.parent.name) > 0
    database.mend(path.parent.name)
    assert database.records(path.parent.name) == 0
    assert "the task is tuned anew" in caplog.text


def test_a_search_that_finds_no_more_candidates_is_not_tried_again(tmp_path):
    database = TuningDatabase(tmp_path, "0.27", resolve_target("llvm", 1))
    (database.folder / "0x1").mkdir(parents=True)
    assert not database.settled("0x1", 64)
    database.settle("0x1", 64)
    assert database.settled("0x1", 64)
    assert not database.settled("0x1", 65)
    (database.folder / "0x1" / "settled.json").write_text("{")
    assert not database.settled("0x1", 64)


def test_when_time_is_up_the_default_code_stays_and_the_row_says_so(tmp_path):
    backend = TvmBackend()
    graph = CONV.lower()
    artifact = backend.compile(graph, target(tmp_path, tuning_seconds="0.000001"))
    assert artifact.metadata["measured_candidates"] == 0
    assert str(artifact.metadata["tuning"]).endswith(
        "; time was up for 1 of them; no candidate ran for 1 of them"
    )
    assert count(tmp_path) == 0


def test_each_target_and_thread_count_has_records_of_its_own(tmp_path):
    texts = [("llvm", 1), ("llvm", 2), ("llvm -opt-level=2", 1)]
    folders = {TuningDatabase(tmp_path, "0.27", resolve_target(*text)).folder for text in texts}
    folders.add(TuningDatabase(tmp_path, "0.28", resolve_target("llvm", 1)).folder)
    assert len(folders) == 4


def test_a_second_builder_waits_for_the_first_and_says_for_whom(tmp_path, caplog):
    one, two = (TuningDatabase(tmp_path, "0.27", resolve_target("llvm", 1)) for _ in range(2))
    with (
        one.locked(),
        pytest.raises(BackendError, match=f"process {os.getpid()} has been tuning in"),
        two.locked(limit_s=0.01),
    ):
        pass
    assert f"waiting for process {os.getpid()}" in caplog.text
    with two.locked(limit_s=0.01):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BackendError, match=r"cannot be written.*--option database=FOLDER"):
        TvmBackend().compile(CONV.lower(), target(tmp_path / "file"))


def test_missing_packages_of_metaschedule_are_said(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "xgboost" else name)
    with pytest.raises(BackendUnavailable, match="pip install xgboost-cpu"):
        TvmBackend().check_target(target(tmp_path))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("llvm -mtriple=aarch64-linux-gnu", {}, "cannot run here"),
        ("cuda -arch=sm_90", {}, "tuning works for CPUs"),
        ("llvm", {"rpc_tracker": "127.0.0.1:9190", "rpc_key": "board"}, "leave tuning=none"),
    ],
)
def test_tuning_where_nothing_can_be_measured_is_refused(name, options, message, tmp_path):
    tuned = Target(name, 1, "float32", {**target(tmp_path).options, **options})
    with pytest.raises(BackendUnavailable, match=message):
        TvmBackend().compile(CONV.lower(), tuned)


def test_the_time_limit_of_a_compilation_follows_from_the_budget(tmp_path):
    backend = TvmBackend()
    assert backend.compile_limit_s(Target("llvm")) is None
    few, many = (backend.compile_limit_s(target(tmp_path, trials=n)) for n in ("8", "64"))
    timed = backend.compile_limit_s(target(tmp_path, tuning_seconds="60"))
    assert 60 < timed < few < many
    named = backend.environment(target(tmp_path, tuning_seconds="60"))
    assert (named["tuning"], named["trials"], named["tuning_seconds"]) == ("metaschedule", TRIALS, 60.0)


def test_sum_named_after_a_relax_variable_replayed_in_no_other_op():
    """An SE block's mean was `lv7_red` after ReLU and `lv13_red` after h-swish: one task by its hash,
    but the second op could not replay the first one's candidates."""
    native = resolve_target("llvm", 1).native()
    found = []
    for activation in ("relu", "hswish"):
        op = ops.mbconv((1, 8, 8, 8), 8, 3, expansion=2, activation=activation, se_ratio=0.25)
        tasks = tvm_tuning._extract(tvm_tuning._prepare(import_graph(op.lower()), native), native)
        found.append({name: loop_names(task) for name, task in tasks.items()})
    shared = set(found[0]) & set(found[1])
    assert any(name.endswith("_red") for task in shared for name in found[0][task])
    assert all(found[0][task] == found[1][task] for task in shared)


def loop_names(task):
    (function,) = task.dispatched[0].functions.values()
    return re.findall(r'T\.sblock\("([^"]*)"\)', function.script())
