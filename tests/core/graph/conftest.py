"""One op of every kind, small, on odd and even sides: tests that take `example` run on each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwprof import ops
from hwprof.ops import OpSpec

ODD, EVEN = (2, 12, 9, 7), (1, 12, 8, 6)

EXAMPLES = {
    "conv": ops.conv(ODD, 8, 3, activation="relu"),
    "conv stride 2 odd": ops.conv(ODD, 8, 5, stride=2, activation="hswish"),
    "conv stride 2 even": ops.conv(EVEN, 8, 3, stride=2, activation="relu6"),
    "grouped conv": ops.conv(ODD, 8, 3, groups=4, activation="swish"),
    "pointwise stride 2": ops.conv(EVEN, 8, 1, stride=2, activation="sigmoid"),
    "depthwise": ops.depthwise(ODD, 5, stride=2, activation="relu"),
    "relu_conv": OpSpec("relu_conv", ODD, 12, mix=((3, 12),)),
    "sep_conv": OpSpec("sep_conv", ODD, 12, mix=((3, 12),)),
    "sep_conv stride 2 wider": OpSpec("sep_conv", EVEN, 20, mix=((5, 20),), stride=2),
    "dil_conv": OpSpec("dil_conv", ODD, 12, mix=((5, 12),)),
    "dil_conv stride 2": OpSpec("dil_conv", EVEN, 12, mix=((3, 12),), stride=2),
    "factorized_reduce": OpSpec("factorized_reduce", EVEN, 20, stride=2),
    "mbconv": ops.mbconv(ODD, 12, 3, 2, activation="relu", se_ratio=0.25),
    "mbconv stride 2": ops.mbconv(EVEN, 16, 5, 3, stride=2, activation="hswish"),
    "mbconv no expansion": ops.mbconv(ODD, 12, 3, 1, activation="relu6"),
    "mixconv": ops.mixconv(ODD, 12, {3: 12, 5: 8, 7: 4}, activation="hswish", se_ratio=0.5),
    "mixconv stride 2": ops.mixconv(ODD, 20, {3: 12, 5: 12}, stride=2, activation="swish"),
    "fused_mbconv": ops.fused_mbconv(ODD, 12, 3, 2, se_ratio=0.25),
    "fused_mbconv stride 2": ops.fused_mbconv(EVEN, 16, 3, 2, stride=2, activation="hswish"),
    "basic_block": OpSpec("basic_block", ODD, 12, mix=((3, 12),), activation="relu"),
    "basic_block wider": OpSpec("basic_block", ODD, 20, mix=((3, 20),), activation="relu"),
    "basic_block stride 2": OpSpec("basic_block", EVEN, 20, mix=((3, 20),), stride=2, activation="relu"),
    "se": ops.squeeze_excite(ODD),
    "relu": ops.activation(ODD, "relu"),
    "relu6": ops.activation(ODD, "relu6"),
    "hswish": ops.activation(ODD, "hswish"),
    "swish": ops.activation(ODD, "swish"),
    "sigmoid": ops.activation(ODD, "sigmoid"),
    "average pool": ops.pool(ODD, "avg", 3),
    "average pool stride 2": ops.pool(ODD, "avg", 3, stride=2),
    "average pool even kernel": ops.pool(ODD, "avg", 2, stride=2),
    "max pool": ops.pool(EVEN, "max", 3, stride=2),
    "max pool even kernel": ops.pool(ODD, "max", 2, stride=2),
    "global pool": ops.pool(ODD, "global_avg"),
    "head": ops.head(ODD, 10, 24, activation="hswish"),
    "plain head": ops.head(EVEN, 10),
    "fc": ops.fc((3, 12), 10, activation="sigmoid"),
    "skip": ops.skip(ODD),
    "subgraph": None,
}  # fmt: skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "example" in metafunc.fixturenames:
        metafunc.parametrize("example", EXAMPLES, indirect=True)


@pytest.fixture(autouse=True)
def block_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWPROF_HOME", str(tmp_path))


@pytest.fixture
def example(request: pytest.FixtureRequest, block_store: None) -> OpSpec:
    return EXAMPLES[request.param] or ops.from_onnx(scale_block("float32"))


@pytest.fixture
def half_example(example: OpSpec) -> OpSpec:
    """The same op in half precision."""
    if example.kind == "subgraph":
        return ops.from_onnx(scale_block("float16"), dtype="float16")
    return OpSpec.from_dict({**example.to_dict(), "dtype": "float16"})


@pytest.fixture
def example_kinds() -> set[str]:
    return {op.kind if op else "subgraph" for op in EXAMPLES.values()}


def scale_block(dtype: str) -> onnx.ModelProto:
    """y = 2 x, as a user's own ONNX block."""
    element = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}[dtype]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "two"], ["y"])], "scale",
        [helper.make_tensor_value_info("x", element, ODD)],
        [helper.make_tensor_value_info("y", element, ODD)],
        initializer=[numpy_helper.from_array(np.full((1, 12, 1, 1), 2, dtype=dtype), "two")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
