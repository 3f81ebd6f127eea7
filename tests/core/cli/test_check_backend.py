"""`check-backend` as a user meets it: it checks what was asked for, and says what the target lacks."""

import json
import os
import subprocess
import sys

import pytest

PLUGIN = """\
from hwprof.backends.simulated import SimulatedBackend
from hwprof.errors import UnsupportedOp

class PartialBackend(SimulatedBackend):
    name = "partial"
    targets = ("exact", "quiet")
    dtypes = ("float32", "int8")

    def compile(self, graph, target):
        if target.dtype == "int8" and target.name == "quiet":
            raise UnsupportedOp("quiet has no integer convolutions")
        if graph.dtype == "int8":
            raise RuntimeError("the compiler fell over")
        return super().compile(graph, target)
"""


@pytest.fixture
def check(tmp_path):
    """Runs `hwprof check-backend` where a third party's backend is installed: one that declares a dtype
    which its target `quiet` takes no op of, and its target `exact` cannot compile."""
    (tmp_path / "partial_backend.py").write_text(PLUGIN)
    info = tmp_path / "partial-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: partial\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[hwprof.backends]\npartial = partial_backend:PartialBackend\n"
    )
    above = os.environ.get("PYTHONPATH", "")

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "hwprof", "check-backend", *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), above])},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    return run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--option", "mdoe=compile"), ("'mdoe'", "graph_optimization, tf32")),
        (("--option", "graph_optimization=foo"), ("'foo'", "all, extended, basic, disabled")),
        (("--dtype", "int7"), ("'int7'", "float32, float16, int8")),
    ],
)
def test_mistyped_choice_is_refused_in_one_line_before_any_check(check, arguments, words):
    done = check("onnxruntime", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("hwprof: error: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


def test_dtype_that_the_target_takes_no_op_of_is_unsupported_and_not_failed(check):
    done = check("partial", "--target", "quiet", "--json")
    assert done.returncode == 0, done.stdout
    results = json.loads(done.stdout)
    (unsupported,) = (result for result in results if result["dtype"] == "int8")
    assert unsupported["ok"] is None
    assert unsupported["unsupported"] == "quiet has no integer convolutions"
    assert all(result["ok"] for result in results if result["dtype"] == "float32")


def test_unsupported_dtype_asked_for_by_name_fails(check):
    done = check("partial", "--target", "quiet", "--dtype", "int8")
    assert done.returncode == 1
    assert "FAIL int8      numerics" in done.stdout


def test_dtype_that_fails_to_compile_is_not_called_unsupported(check):
    done = check("partial", "--target", "exact")
    assert done.returncode == 1
    assert "unsupported  " not in done.stdout
    assert "FAIL int8      chain  RuntimeError: the compiler fell over" in done.stdout
