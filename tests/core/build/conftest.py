"""A small space, the misbehaving out-of-tree backend, and a command runner."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hwprof.build import BuildOptions

OUT_OF_TREE = Path(__file__).parents[2] / "backends" / "out_of_tree"


@pytest.fixture
def options(tmp_path):
    return BuildOptions("simulated", "tiny", tmp_path / "lut.parquet", target="quiet", effort="fast")


@pytest.fixture
def faulty(monkeypatch):
    """Makes `--backend faulty` known here and in worker processes."""
    monkeypatch.syspath_prepend(str(OUT_OF_TREE))
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(OUT_OF_TREE), before])))
    yield
    sys.modules.pop("faulty_backend", None)


@pytest.fixture
def hwprof_command(tmp_path):
    """Runs `python -m hwprof ...` in an empty folder and returns the finished process."""

    def run(*arguments, **options):
        return subprocess.run(
            [sys.executable, "-m", "hwprof", *map(str, arguments)],
            capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False, **options,
        )  # fmt: skip

    return run
