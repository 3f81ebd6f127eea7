"""The command line as a user meets it: one line for bad input, exit codes, nothing overwritten."""

import json
import subprocess
import sys

import pytest


@pytest.fixture
def hwprof(tmp_path):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "hwprof", *map(str, arguments)],
            capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False,
        )  # fmt: skip

    return run


BUILD = ("build-lut", "--backend", "simulated", "--target", "exact", "--effort", "fast")
SPACE = """\
name: mine
family: chain
summary: a test
input: [3, 32, 32]
stem: {channels: 8, kernel: 3, stride: 2, activation: relu}
stages:
  - {blocks: 1, channels: 8, stride: 1}
block:
  kind: mixconv
  skip: true
  activation: relu
  choices:
    - {expansion: 4, mix: {3: 2, 5: 2}}
head: {hidden: 16, activation: relu, classes: 10}
"""


def refused(done, *words):
    """One line on standard error, exit code 2, no traceback, nothing on standard output."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("hwprof: error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("build-lut",), ("--backend",)),
        ((*BUILD, "--space", "tiny"), ("--out",)),
        ((*BUILD, "--space", "tiny", "--out", "x.parquet", "--threads", "many"), ("many", "integer")),
        ((*BUILD, "--space", "tiny", "--out", "x.parquet", "--budget", "soon"), ("soon", "10m")),
        ((*BUILD, "--space", "tiny", "--out", "x.parquet", "--dtype", "int7"), ("int7", "float32")),
        ((*BUILD, "--space", "tinny", "--out", "x.parquet"), ("tinny", "tiny")),
        (
            ("build-lut", "--backend", "tensorflow", "--space", "tiny", "--out", "x.parquet"),
            ("choose of",),
        ),
        (("lut", "info", "missing.parquet"), ("does not exist",)),
        (("check-backend", "nope"), ("choose of",)),
        (("nonsense",), ("nonsense",)),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(hwprof, tmp_path, arguments, words):
    refused(hwprof(*arguments), *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("channels: 8, kernel: 3", "chanels: 8, kernel: 3", ("mine.yaml:5", "chanels", "channels")),
        ("blocks: 1, channels: 8", "blocks: 1, channels: 0", ("mine.yaml:7", "channels", "0")),
        ("mix: {3: 2, 5: 2}", "mix: {3: 2, 5: 1}", ("mine.yaml:13", "expansion", "4")),
        ("mix: {3: 2, 5: 2}", "mix: {3: 2, 33: 2}", ("mine.yaml", "33x33", "larger than its input")),
    ],
)
def test_mistake_in_a_users_space_names_file_line_and_field(hwprof, tmp_path, before, after, words):
    assert before in SPACE
    (tmp_path / "mine.yaml").write_text(SPACE.replace(before, after))
    refused(hwprof(*BUILD, "--space", "mine.yaml", "--out", "x.parquet"), *words)


def test_users_own_space_builds(hwprof, tmp_path):
    (tmp_path / "mine.yaml").write_text(SPACE)
    done = hwprof(*BUILD, "--space", "mine.yaml", "--out", "lut.parquet", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["states"] == {"converged": 3}


def test_table_of_a_newer_schema_is_not_touched(hwprof, tmp_path):
    import pyarrow.parquet as pq

    out = tmp_path / "lut.parquet"
    assert hwprof(*BUILD, "--space", "tiny", "--out", out).returncode == 0
    table = pq.read_table(out)
    pq.write_table(
        table.replace_schema_metadata({**table.schema.metadata, b"hwprof.schema_version": b"99"}), out
    )
    before = out.read_bytes()
    refused(hwprof(*BUILD, "--space", "tiny", "--out", out), "schema 99", "upgrade hwprof")
    refused(hwprof("lut", "show", out), "schema 99")
    assert out.read_bytes() == before


def test_first_use_from_build_to_sql(hwprof):
    assert hwprof(*BUILD, "--space", "tiny", "--out", "lut.parquet").returncode == 0
    info = json.loads(hwprof("lut", "info", "lut.parquet", "--json").stdout)
    assert info["rows"] == 10
    rows = json.loads(
        hwprof("lut", "query", "lut.parquet", "select count(*) n from lut", "--json").stdout
    )
    assert rows == [{"n": 10}]
    assert "mixconv" in hwprof("lut", "show", "lut.parquet").stdout


def test_backends_lists_the_built_in_ones_as_json(hwprof):
    entries = {entry["name"]: entry for entry in json.loads(hwprof("backends", "--json").stdout)}
    assert entries["onnxruntime"]["available"]
    assert entries["onnxruntime"]["version"]


def test_backends_cuts_no_name_that_is_typed_again(hwprof, monkeypatch):
    """In a terminal of 80 columns a table left `onnxrun...` and `graph_op...`."""
    monkeypatch.setenv("COLUMNS", "40")
    told = hwprof("backends").stdout
    for name in (
        "onnxruntime",
        "--option graph_optimization=all|extended|basic|disabled",
        "metaschedule",
    ):
        assert name in told
    assert "targets  llvm, any other that it knows" in told


def test_check_backend_passes_the_simulated_one(hwprof):
    done = hwprof("check-backend", "simulated", "--dtype", "float32", "--json")
    assert done.returncode == 0, done.stdout
    assert all(result["ok"] for result in json.loads(done.stdout))


def test_failed_rows_make_exit_code_1(hwprof, tmp_path, monkeypatch):
    import os
    from pathlib import Path

    folder = Path(__file__).parents[2] / "backends" / "out_of_tree"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    done = hwprof("build-lut", "--backend", "faulty", "--target", "raise", "--space", "tiny", "--effort",
                  "fast", "--out", "lut.parquet")  # fmt: skip
    assert done.returncode == 1
    assert "--retry-failed" in done.stdout
