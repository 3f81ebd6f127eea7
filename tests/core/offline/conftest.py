"""Real exports, and a device to run them on: a Python that has numpy and the runtimes but no hwprof."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hwprof.offline import ExportOptions, export_jobs
from hwprof.offline.plan import OfflinePlan
from hwprof.offline.runner.lines import read_lines, sealed_line

OPS = 3
# Loaded by every Python of the device at its start. What the environment sets makes it a worse device.
SITE = """\
import importlib.abc, os, signal, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["DEVICE_LACKS"].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Missing())
if os.environ.get("DEVICE_CRASHES_ON") and "--worker" in sys.orig_argv:
    import onnxruntime
    make = onnxruntime.InferenceSession

    def crash_on_one_model(model, *args, **options):
        if len(model) == int(os.environ["DEVICE_CRASHES_ON"]):
            os.kill(os.getpid(), signal.SIGSEGV)
        return make(model, *args, **options)

    onnxruntime.InferenceSession = crash_on_one_model
if os.environ.get("DEVICE_HANGS_AND_TELLS") and "--worker" in sys.orig_argv:
    import onnxruntime

    def hang(*_, **__):
        pipe = os.open(os.environ["DEVICE_HANGS_AND_TELLS"], os.O_WRONLY)
        os.write(pipe, b"%d\\n" % os.getpid())
        while True:
            signal.pause()

    onnxruntime.InferenceSession = hang
if os.environ.get("DEVICE_PINS_ONCE_BESIDE"):
    set_affinity = os.sched_setaffinity

    def pin_once(process, cores):
        try:
            os.close(os.open(os.environ["DEVICE_PINS_ONCE_BESIDE"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            raise OSError("Invalid argument") from None
        set_affinity(process, cores)

    os.sched_setaffinity = pin_once
if os.environ.get("DEVICE_TFLITE") and "--worker" in sys.orig_argv:
    from ai_edge_litert import interpreter as tflite
    make_interpreter = tflite.Interpreter

    def worse(**chosen):
        if os.environ["DEVICE_TFLITE"] == "fails":  # as tflite-runtime does with numpy 2
            raise SystemError("CreateWrapperFromBuffer returned a result with an exception set")
        without = tflite.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        return make_interpreter(**{**chosen, "experimental_op_resolver_type": without})

    tflite.Interpreter = worse
"""


def _interruptible() -> None:
    """A shell that runs the tests in the background hands on that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Device:
    """Runs commands in a folder of its own where hwprof cannot be imported."""

    def __init__(self, folder: Path, exported: Path) -> None:
        self.jobs = folder / "carried"
        shutil.copytree(exported, self.jobs)
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(SITE)
        self._environment = {**os.environ, "PYTHONPATH": str(folder / "site"), "DEVICE_LACKS": "hwprof"}

    @property
    def results(self) -> Path:
        return self.jobs / "results.jsonl"

    def records(self) -> list[dict[str, object]]:
        _, plan_hash = OfflinePlan.read(self.jobs / "plan.json")
        return [record for _, record, _, _ in read_lines(str(self.results), plan_hash)]

    def rewrite(self, change: Callable[[dict[str, object]], object]) -> None:
        """The results as another device would have written them: each record changed, sealed anew."""
        seal, lines = "", []
        for record in self.records():
            change(record)
            seal, line = sealed_line(seal, record)
            lines.append(line)
        self.results.write_bytes(b"".join(lines))

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self.jobs / "run.py"), *arguments],
            env={**self._environment, **environment}, cwd=self.jobs.parent, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=_interruptible,
        )  # fmt: skip

    def run(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Exit code and standard error of run.py; nothing goes to standard output."""
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=60)
        assert out == ""
        return process.returncode, err


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Path:
    """A few ops of `tiny` for onnxruntime."""
    folder = tmp_path_factory.mktemp("offline") / "jobs"
    export_jobs(ExportOptions("onnxruntime", "tiny", folder, effort="fast", limit=OPS))
    return folder


@pytest.fixture(scope="session")
def measured(exported, tmp_path_factory) -> Path:
    """The same folder with complete results."""
    device = Device(tmp_path_factory.mktemp("measured"), exported)
    assert device.run()[0] == 0
    return device.jobs


@pytest.fixture
def carry(tmp_path) -> Callable[[Path], Device]:
    """A new device to which a folder was carried."""
    return lambda jobs: Device(Path(tempfile.mkdtemp(dir=tmp_path)), jobs)


@pytest.fixture
def device(exported, carry) -> Device:
    """A device to which the jobs were just carried."""
    return carry(exported)


@pytest.fixture
def done(measured, carry) -> Device:
    """A device that has measured everything."""
    return carry(measured)


@pytest.fixture
def hwprof_command(tmp_path):
    """Runs `python -m hwprof ...` and returns the finished process."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hwprof", *map(str, arguments)],
            capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False,
        )  # fmt: skip

    return run
