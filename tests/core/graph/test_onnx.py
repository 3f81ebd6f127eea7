"""The emitted ONNX passes the checker and computes what the reference computes."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest

from hwprof import ops
from hwprof.graph import Graph
from hwprof.graph.onnx_emitter import OPSET, to_onnx
from hwprof.graph.reference import run_reference
from hwprof.graph.weights import random_inputs
from hwprof.ops import OpSpec

# Half precision keeps 11 bits; a block sums a few hundred products of values near one.
TOLERANCE = {"float32": 2e-6, "float16": 4e-3}


def check(graph: Graph) -> None:
    model = to_onnx(graph)
    onnx.checker.check_model(model, full_check=True)
    feed = {k: v.astype(graph.dtype) for k, v in random_inputs(graph, np.random.default_rng(3)).items()}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    outputs = session.run(list(graph.outputs), feed)
    for name, got, want in zip(graph.outputs, outputs, run_reference(graph, feed), strict=True):
        assert got.dtype == graph.dtype
        assert got.shape == graph.shapes[name]
        scale = np.abs(want).max()
        assert np.abs(got - want).max() <= TOLERANCE[graph.dtype] * scale


def test_every_op_kind_in_single_precision(example: OpSpec) -> None:
    check(example.lower())


def test_every_op_kind_in_half_precision(half_example: OpSpec) -> None:
    check(half_example.lower())


def test_a_network_keeps_its_names_and_opset() -> None:
    chain = [
        ops.conv((1, 3, 33, 33), 8, 3, stride=2, activation="hswish"),
        ops.mixconv((1, 8, 17, 17), 8, {3: 16, 5: 16}, se_ratio=0.25),
        ops.head((1, 8, 17, 17), 10, 32),
    ]
    graph = ops.lower(chain)
    check(graph)
    model = to_onnx(graph)
    assert [v.name for v in model.graph.input] == list(graph.inputs)
    assert [v.name for v in model.graph.output] == list(graph.outputs)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]


def test_batch_norm_is_folded_on_emission(example: OpSpec) -> None:
    assert "BatchNormalization" not in {n.op_type for n in to_onnx(example.lower()).graph.node}


def test_the_same_graph_gives_the_same_bytes(example: OpSpec) -> None:
    first, second = (to_onnx(example.lower()).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
def test_a_dtype_that_is_not_emitted_is_refused_by_name(dtype: str) -> None:
    graph = ops.conv((1, 3, 8, 8), 4, dtype=dtype).lower()
    with pytest.raises(ValueError, match=f"{dtype}.*float32, float16"):
        to_onnx(graph)


def test_an_unknown_primitive_is_an_error_in_emitter_and_reference() -> None:
    graph = ops.skip((1, 3, 8, 8)).lower()
    odd = dataclasses.replace(graph, nodes=(dataclasses.replace(graph.nodes[0], primitive="erf"),))
    with pytest.raises(ValueError, match="erf"):
        to_onnx(odd)
    with pytest.raises(ValueError, match="erf"):
        run_reference(odd, {"x0": np.ones((1, 3, 8, 8))})
