"""A list of ops: a user's own ONNX block is measured by name of its content."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwprof.build import BuildOptions, build_lut
from hwprof.errors import SpaceError
from hwprof.lut import load_lut
from hwprof.space import load_space

SPACE = """\
name: my-blocks
family: ops
summary: An attention block and a convolution
ops:
  - {onnx: attention.onnx}
  - {op: '{"kind": "conv", "shape": [1, 3, 16, 16], "out_channels": 8, "mix": [[3, 8]]}'}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the space's file and its ONNX block: softmax(x w) x."""
    monkeypatch.setenv("HWPROF_HOME", str(tmp_path / "home"))
    weight = np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32) * 0.2
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "x"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "attention",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 8, 16))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 8, 16))],
        [numpy_helper.from_array(weight, "w")],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "attention.onnx")
    (tmp_path / "mine.yaml").write_text(SPACE)
    return tmp_path


def test_users_own_onnx_block_becomes_a_measured_row(folder):
    out = folder / "lut.parquet"
    report = build_lut(BuildOptions("onnxruntime", str(folder / "mine.yaml"), out, effort="fast"))
    assert report.failed == 0
    rows = {row["kind"]: row for row in load_lut(out).table.to_pylist()}
    assert rows["subgraph"]["latency_ms"] > 0
    assert rows["subgraph"]["flops"] == 2 * 2 * 8 * 16 * 8
    assert len(rows["subgraph"]["content"]) == 64
    assert rows["conv"]["latency_ms"] > 0


def test_list_of_ops_has_no_networks(folder):
    space = load_space(folder / "mine.yaml")
    assert [op.kind for op in space.ops()] == ["subgraph", "conv"]
    with pytest.raises(SpaceError, match="list of ops"):
        space.network((0, 0))


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("attention.onnx", "missing.onnx", "mine.yaml:5"),
        ("onnx:", "onx:", "onx"),
        ('"conv"', '"cnv"', "mine.yaml:6.*cnv"),
        ("{onnx: attention.onnx}", "{}", "mine.yaml:5.*either"),
        ("ops:\n", "opps:\n", "opps"),
    ],
)
def test_mistake_in_a_list_of_ops_names_file_and_line(folder, before, after, words):
    assert before in SPACE
    (folder / "mine.yaml").write_text(SPACE.replace(before, after))
    with pytest.raises(SpaceError, match=words) as caught:
        load_space(folder / "mine.yaml")
    assert "\n" not in str(caught.value)
