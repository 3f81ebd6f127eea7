"""Worker processes: what happens when one dies, and that none outlives its pipeline."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hwprof import ops
from hwprof.backends.backend import Target
from hwprof.errors import BackendError, BuildError
from hwprof.measure.artifact import is_whole, read_artifact
from hwprof.measure.executor import LocalExecutor
from hwprof.measure.messages import Job, VisitRequest

JOB = Job((ops.mbconv((1, 8, 8, 8), 8, 3, 2),))


def request(artifact):
    return VisitRequest(str(artifact), (0, 1), "warm", 1.0, 5, 0.02, 1)


@pytest.fixture
def executor(tmp_path):
    with LocalExecutor("simulated", Target("exact"), tmp_path / "log") as made:
        yield made


def test_worker_that_died_between_two_requests_is_replaced_and_blames_no_op(executor, tmp_path):
    executor.compile(JOB, tmp_path / "a.artifact")
    assert executor.visit(0, request(tmp_path / "a.artifact")).calls_ns
    worker = executor._workers[0]._process
    worker.kill()
    worker.wait()
    assert executor.visit(0, request(tmp_path / "a.artifact")).calls_ns


def test_unwritable_artifact_stops_the_build_and_not_one_row(executor, tmp_path):
    with pytest.raises(BuildError, match="cannot be written: No such file or directory"):
        executor.compile(JOB, tmp_path / "no" / "such" / "folder.artifact")


def test_damaged_artifact_is_never_timed(executor, tmp_path):
    path = tmp_path / "a.artifact"
    executor.compile(JOB, path)
    assert is_whole(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert not is_whole(path)
    with pytest.raises(BackendError, match="damaged"):
        read_artifact(path)
    with pytest.raises(BackendError, match="damaged"):
        executor.visit(0, request(path))


def test_module_of_the_current_folder_is_not_imported_by_workers(tmp_path, monkeypatch):
    (tmp_path / "queue.py").write_text("raise RuntimeError('the wrong queue')")
    monkeypatch.chdir(tmp_path)
    with LocalExecutor("simulated", Target("exact"), tmp_path / "log") as made:
        assert made.compile(JOB, tmp_path / "a.artifact").checked.placement == {"simulated": 6}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_hanging_worker_dies_with_its_pipeline():
    folder = Path(__file__).parents[2] / "backends" / "out_of_tree"
    code = (
        "from pathlib import Path; import sys, tempfile\n"
        "from hwprof import ops\nfrom hwprof.backends.backend import Target\n"
        "from hwprof.measure.executor import LocalExecutor\n"
        "from hwprof.measure.messages import Job\n"
        "folder = Path(tempfile.mkdtemp())\n"
        "made = LocalExecutor('faulty', Target('hang'), folder / 'log')\n"
        "made.compile(Job((ops.mbconv((1, 8, 8, 8), 8, 3, 2),)), folder / 'fine.artifact')\n"
        "print(made._workers[-1]._process.pid, flush=True)\n"
        "made.compile(Job((ops.mbconv((1, 8, 8, 8), 8, 3, 2, stride=2),)), folder / 'hangs.artifact')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    pipeline = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )
    worker = int(pipeline.stdout.readline())
    pipeline.send_signal(signal.SIGKILL)
    pipeline.communicate()
    for _ in range(1000):
        try:
            state = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):  # the latter where it ends between open and read
            return
        if state == "Z":
            return
        time.sleep(0.01)
    raise AssertionError("the worker still runs ten seconds after its pipeline was killed")
