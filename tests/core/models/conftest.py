"""Small ONNX models, written operator by operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwprof.build import BuildOptions, build_lut
from hwprof.lut import load_lut
from hwprof.models.predict import Predictor
from hwprof.models.rows import select_rows


class Maker:
    """Appends operators; each method gives the name of its result."""

    def __init__(self, shape: tuple[int | str, ...], element: int = TensorProto.FLOAT) -> None:
        self.shape, self.element = shape, element
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(0)

    def constant(self, values: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(kind, inputs, [name], name=f"{kind}_{name}", domain=domain, **attributes)
        )
        return name

    def conv(
        self, x: str, ins: int, outs: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> str:
        shape = (outs, ins // groups, kernel, kernel)
        weight = self.constant(self.rng.standard_normal(shape).astype(np.float32) * 0.1)
        bias = self.constant(np.zeros(outs, np.float32))
        return self.op(
            "Conv", x, weight, bias, kernel_shape=[kernel] * 2, strides=[stride] * 2,
            pads=[kernel // 2] * 4, group=groups,
        )  # fmt: skip

    def norm(self, x: str, channels: int) -> str:
        numbers = [self.constant(np.full(channels, v, np.float32)) for v in (1.1, 0.1, 0.1, 1.0)]
        return self.op("BatchNormalization", x, *numbers)

    def split(self, x: str, *sizes: int) -> list[str]:
        names = [f"t{len(self.nodes)}_{part}" for part in range(len(sizes))]
        sizes_name = self.constant(np.array(sizes))
        self.nodes.append(helper.make_node("Split", [x, sizes_name], names, name=names[0], axis=1))
        return names

    def relu6(self, x: str) -> str:
        return self.op("Clip", x, self.constant(np.float32(0)), self.constant(np.float32(6)))

    def model(self, *outputs: str, opset: int = 18, domains: tuple[str, ...] = ()) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", self.element, self.shape)],
            [helper.make_tensor_value_info(name, self.element, None) for name in outputs],
            self.weights,
        )
        opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def small_network() -> onnx.ModelProto:
    """A stem, an inverted residual with squeeze-and-excitation, a head."""
    m = Maker((1, 3, 32, 32))
    stem = m.relu6(m.norm(m.conv("x", 3, 24, 3, 2), 24))
    y = m.op("HardSwish", m.norm(m.conv(stem, 24, 72), 72))
    y = m.op("HardSwish", m.norm(m.conv(y, 72, 72, 3, 1, 72), 72))
    gate = m.op("Relu", m.conv(m.op("GlobalAveragePool", y), 72, 20))
    gate = m.op("HardSigmoid", m.conv(gate, 20, 72), alpha=1 / 6, beta=0.5)
    y = m.norm(m.conv(m.op("Mul", y, gate), 72, 24), 24)
    y = m.op("Relu", m.conv(m.op("Add", stem, y), 24, 64))
    y = m.op("Flatten", m.op("GlobalAveragePool", y))
    weight = m.constant(np.ones((10, 64), np.float32) * 0.1)
    return m.model(m.op("Gemm", y, weight, m.constant(np.zeros(10, np.float32)), transB=1))


@pytest.fixture(scope="session")
def maker() -> type[Maker]:
    return Maker


@pytest.fixture(scope="session")
def network() -> onnx.ModelProto:
    """Not to be changed; `copied` gives one that may be."""
    return small_network()


@pytest.fixture
def copied() -> onnx.ModelProto:
    return small_network()


SPACE = """
name: sampled-small
family: sampled
summary: for tests
seed: 3
ops:
  - {kind: conv, count: 40, channels: [8, 128], out_channels: [8, 128],
     side: [7, 14, 28], activation: [none, relu]}
  - {kind: conv, count: 24, channels: [8, 64], out_channels: [8, 64],
     kernel: [3], stride: [1, 2], side: [7, 14, 28]}
  - {kind: depthwise, count: 24, channels: [8, 128], kernel: [3, 5],
     stride: [1, 2], side: [7, 14, 28]}
  - {kind: conv, count: 6, channels: [3], out_channels: [8, 32],
     kernel: [3], stride: [2], side: [32, 56]}
  - {kind: activation, count: 8, channels: [8, 128], side: [7, 14, 28], activation: [relu, relu6]}
  - {kind: global_pool, count: 8, channels: [8, 128], side: [7, 14]}
  - {kind: fc, count: 10, channels: [16, 512], out_channels: [10, 512]}
  - {kind: mbconv, count: 10, channels: [8, 32], expansion: [2, 4],
     kernel: [3], side: [7, 14], residual: true}
"""


@pytest.fixture(scope="session")
def space_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "sampled-small.yaml"
    path.write_text(SPACE)
    return path


@pytest.fixture(scope="session")
def table_file(tmp_path_factory: pytest.TempPathFactory, space_file: Path) -> Path:
    """Rows of the simulated backend, whose truth is known (`true_latency_ms`)."""
    path = tmp_path_factory.mktemp("table") / "lut.parquet"
    build_lut(BuildOptions("simulated", str(space_file), path, target="exact", effort="fast"))
    return path


@pytest.fixture(scope="session")
def predictor(table_file: Path) -> Predictor:
    return Predictor(select_rows(load_lut(table_file)))
