"""`--measure` puts the truth beside a prediction and leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto

from hwprof.build import BuildOptions, build_lut
from hwprof.cli.main import cli
from hwprof.errors import LutError, OpError
from hwprof.lut import load_lut
from hwprof.models.measuring import measure_file
from hwprof.models.rows import select_rows

SPACE = """
name: few
family: sampled
summary: for tests
seed: 1
ops:
  - {kind: conv, count: 6, channels: [8, 32], out_channels: [8, 32], side: [8, 16]}
  - {kind: conv, count: 3, channels: [3], out_channels: [8, 16],
     kernel: [3], stride: [2], side: [16, 32]}
  - {kind: fc, count: 3, channels: [16, 64], out_channels: [10, 32]}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HWPROF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def measured_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("few")
    (folder / "few.yaml").write_text(SPACE)
    path = folder / "lut.parquet"
    build_lut(BuildOptions("onnxruntime", str(folder / "few.yaml"), path, effort="fast"))
    return path


def test_the_whole_model_is_measured_as_the_rows_were(
    maker: Any, measured_table: Path, home: Path, tmp_path: Path
) -> None:
    m = maker((1, 3, 32, 32))
    y = m.op("Relu", m.conv(m.op("Relu", m.conv("x", 3, 16, 3, 2)), 16, 24))
    path = tmp_path / "model.onnx"
    path.write_bytes(m.model(y).SerializeToString())
    done = CliRunner().invoke(
        cli,
        ["predict", str(path), "--lut", str(measured_table), "--allow-missing", "--allow-unstable",
         "--measure", "--json",
         "--effort", "fast", "--space", str(measured_table.with_name("few.yaml"))],
    )  # fmt: skip
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    told = json.loads(done.output.splitlines()[-1])
    assert told["measured_ms"] > 0
    assert told["error"] == pytest.approx(told["latency_ms"] / told["measured_ms"] - 1)
    assert list((home / "blocks").glob("*")) == []
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["model.onnx"]


def test_a_space_that_is_not_shipped_has_to_be_given(
    maker: Any, measured_table: Path, home: Path, tmp_path: Path
) -> None:
    m = maker((1, 3, 32, 32))
    path = tmp_path / "model.onnx"
    path.write_bytes(m.model(m.conv("x", 3, 16, 3)).SerializeToString())
    from hwprof.errors import SpaceError

    with pytest.raises(SpaceError, match="'few' is unknown"):
        measure_file(path, select_rows(load_lut(measured_table)))


def test_a_backend_that_cannot_run_the_model_gives_its_reason(
    network: onnx.ModelProto, table_file: Path, space_file: Path, home: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(network.SerializeToString())
    with pytest.raises(LutError, match="could not be measured: unsupported: simulated cannot price"):
        measure_file(path, select_rows(load_lut(table_file)), space=str(space_file), effort="fast")
    assert list((home / "blocks").glob("*")) == []


def test_a_model_of_several_inputs_is_not_measured(
    maker: Any, table_file: Path, space_file: Path, home: Path, tmp_path: Path
) -> None:
    m = maker((1, 8))
    model = m.model(m.op("Add", "x", "second"))
    model.graph.input.append(onnx.helper.make_tensor_value_info("second", TensorProto.FLOAT, (1, 8)))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(OpError, match="one input and one output, got 2 and 1"):
        measure_file(path, select_rows(load_lut(table_file)), space=str(space_file))
