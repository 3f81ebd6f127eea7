"""Worker processes in another Python interpreter."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hwprof import ops
from hwprof.backends.backend import Target
from hwprof.backends.conformance import CHECKS
from hwprof.build import BuildOptions, build_lut, make_plan
from hwprof.errors import BackendUnavailable, BuildError
from hwprof.lut import load_lut
from hwprof.measure.conformance_worker import conformance_elsewhere
from hwprof.measure.executor import LocalExecutor
from hwprof.measure.interpreter import check_interpreter, make_bundle
from hwprof.measure.messages import Job


def test_other_interpreter_has_none_of_this_ones_packages(other_python):
    """Else the tests below would prove nothing."""
    for module in ("hwprof", "onnx", "click"):
        done = subprocess.run(
            [other_python, "-P", "-c", f"import {module}"], capture_output=True, check=False
        )
        assert done.returncode == 1


def test_bundle_holds_every_module_and_the_backends_entry_points():
    with make_bundle() as folder:
        names = {str(path.relative_to(folder)) for path in Path(folder).rglob("*.py")}
        assert {
            "hwprof/measure/worker.py",
            "hwprof/backends/backend.py",
            "hwprof/lut/schema.py",
        } <= names
        points = next(Path(folder).glob("*.dist-info/entry_points.txt")).read_text()
        assert "onnxruntime = hwprof.backends.onnxruntime:OnnxRuntimeBackend" in points
    assert not Path(folder).exists()


def test_table_is_built_with_ops_compiled_here_and_run_there(tmp_path, other_python):
    options = BuildOptions(
        "simulated", "tiny", tmp_path / "lut.parquet", target="exact", effort="fast", limit=3,
        python=other_python,
    )  # fmt: skip
    report = build_lut(options)
    assert report.states == {"converged": 3}
    here = BuildOptions("simulated", "tiny", tmp_path / "here.parquet", target="exact", effort="fast")
    assert make_plan(here).environment.identity == make_plan(options).environment.identity
    assert load_lut(options.out).table["latency_ms"].to_pylist() == pytest.approx(
        load_lut_rows(here)[:3], rel=1e-6
    )


def load_lut_rows(options):
    build_lut(replace(options, limit=3))
    return load_lut(options.out).table["latency_ms"].to_pylist()


def test_compiler_stays_in_this_interpreter(tmp_path, other_python):
    with LocalExecutor("simulated", Target("exact"), tmp_path / "log", python=other_python) as executor:
        executor.compile(Job((ops.mbconv((1, 8, 8, 8), 8, 3, 2),)), tmp_path / "a.artifact")
        programs = {n: w._process.args[0] for n, w in executor._workers.items()}
    assert programs == {executor.COMPILER: sys.executable, executor.CHECKER: str(other_python)}


def test_runtime_missing_in_the_other_interpreter_stops_the_build_before_it_starts(
    tmp_path, other_python
):
    options = BuildOptions(
        "onnxruntime", "tiny", tmp_path / "lut.parquet", python=other_python, effort="fast"
    )
    with pytest.raises(Exception, match=r"onnxruntime does not import: .*pip install .*onnxruntime"):
        build_lut(options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder / "nowhere", "is no file"),
        (lambda folder: Path("/bin/ls"), "does not answer as a Python does"),
        (lambda folder: script(folder, '{"python": [3, 9, 18], "numpy": "1.2"}'), "is Python 3.9.18"),
        (lambda folder: script(folder, '{"python": [3, 12, 1], "numpy": ""}'), "has no numpy"),
        (lambda folder: script(folder, "[]"), "does not answer as a Python does"),
    ],
)  # fmt: skip
def test_path_that_is_no_fitting_python_is_refused_in_one_line(make, says, tmp_path):
    with pytest.raises(BuildError, match=says) as caught:
        check_interpreter(make(tmp_path))
    assert "\n" not in str(caught.value)
    assert "make-interpreter" in str(caught.value)


def script(folder, answer):
    """A Python before 3.11, which has no option -P, that answers so."""
    path = folder / "python"
    path.write_text(
        '#!/bin/sh\nfor word in "$@"; do\n'
        '  [ "$word" = -P ] && { echo "Unknown option: -P" >&2; exit 2; }\n'
        f"done\necho '{answer}'\n"
    )
    path.chmod(0o755)
    return path


def test_modules_of_the_current_folder_and_of_pythonpath_are_not_the_interpreters(
    other_python, tmp_path, monkeypatch
):
    for folder in ("here", "path"):
        (tmp_path / folder).mkdir()
    (tmp_path / "here" / "json.py").write_text("raise SystemExit('shadowed')")
    (tmp_path / "path" / "numpy.py").write_text("raise ImportError('of another Python')")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    check_interpreter(other_python)


def test_conformance_suite_says_what_is_missing_there(other_python):
    with pytest.raises(BackendUnavailable, match=r"onnxruntime does not import: .*pip install"):
        list(conformance_elsewhere(other_python, "onnxruntime", Target("cpu"), CHECKS))


def test_conformance_suite_runs_there_with_ops_compiled_here(other_python):
    checks = [c for c in CHECKS if c.__name__ in ("check_numerics", "check_unsupported_dtype")]
    results = conformance_elsewhere(other_python, "simulated", Target("exact"), tuple(checks))
    assert list(results) == [("check_numerics", ""), ("check_unsupported_dtype", "")]
