"""The worked example of a third party's backend: found by its entry point, held to the suite, used."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hwprof.backends import load_backend
from hwprof.backends.backend import Target
from hwprof.backends.conformance import CHECKS

OUT_OF_TREE = Path(__file__).parent / "out_of_tree"


@pytest.fixture
def installed(monkeypatch):
    """As if `pip install` had put the distribution there: for this process and those it starts."""
    monkeypatch.syspath_prepend(str(OUT_OF_TREE))
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(OUT_OF_TREE), before])))
    yield
    sys.modules.pop("example_backend", None)


def hwprof(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "hwprof", *arguments],
        capture_output=True, text=True, cwd=folder, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_example_keeps_the_contract(installed, check):
    check(load_backend("onnx-reference"), Target("cpu"))


def test_example_is_as_short_as_it_is_said_to_be():
    lines = (OUT_OF_TREE / "example_backend.py").read_text().splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 60


def test_example_is_listed_beside_the_built_in_ones(installed, tmp_path):
    entries = json.loads(hwprof(tmp_path, "backends", "--json").stdout)
    (entry,) = (entry for entry in entries if entry["name"] == "onnx-reference")
    assert entry["available"] is True
    assert (entry["targets"], entry["dtypes"]) == (["cpu"], ["float32"])


def test_example_builds_a_table(installed, tmp_path):
    done = hwprof(
        tmp_path, "build-lut", "--backend", "onnx-reference", "--space", "tiny", "--effort", "fast",
        "--out", "lut.parquet",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(hwprof(tmp_path, "lut", "info", "lut.parquet", "--json").stdout)
    assert told["rows"] == 10
    assert set(told["rows_by_state"]) <= {"converged", "budget", "unstable"}
    (environment,) = told["environments"]
    assert "onnx-reference" in environment["description"]
