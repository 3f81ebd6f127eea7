"""The emitted TFLite model computes what the reference computes, in NHWC and without transposes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hwprof import ops
from hwprof.errors import UnsupportedOp
from hwprof.graph import Graph, GraphBuilder
from hwprof.graph.reference import run_reference
from hwprof.graph.weights import random_inputs
from hwprof.ops import OpSpec

pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from hwprof.graph.tflite_emitter import nhwc, to_tflite
from hwprof.graph.tflite_writer import SIGNATURE, TfliteWriter

TOLERANCE = {"float32": 2e-6, "float16": 4e-3}
RESOLVERS = {
    "xnnpack": OpResolverType.BUILTIN,
    "kernels": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
}


def interpret(model: bytes, kernels: str) -> Interpreter:
    interpreter = Interpreter(
        model_content=model, num_threads=1, experimental_op_resolver_type=RESOLVERS[kernels]
    )
    interpreter.allocate_tensors()
    return interpreter


def axes(tensor: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    return tensor.transpose(order) if tensor.ndim == 4 else tensor


def check(graph: Graph, kernels: str = "xnnpack", weights: str = "float32") -> list[str]:
    """Compare with the reference; the names of the model's operators."""
    interpreter = interpret(to_tflite(graph, weights), kernels)
    operators = [d["op_name"] for d in interpreter._get_ops_details() if d["op_name"] != "DELEGATE"]
    feed = random_inputs(graph, np.random.default_rng(3))
    runner = interpreter.get_signature_runner(SIGNATURE)
    results = runner(**{name: axes(value, (0, 2, 3, 1)) for name, value in feed.items()})
    for name, expected in zip(graph.outputs, run_reference(graph, feed), strict=True):
        result = axes(results[name], (0, 3, 1, 2))
        assert result.shape == expected.shape == tuple(graph.shapes[name])
        limit = TOLERANCE[weights] * np.abs(expected).max()
        np.testing.assert_allclose(result, expected, rtol=0, atol=limit)
    return operators


def operators_of(spec: OpSpec) -> list[str]:
    return check(spec.lower())


@pytest.mark.parametrize("kernels", RESOLVERS)
def test_every_op_computes_what_the_reference_does(example, kernels):
    if example.kind == "subgraph":
        with pytest.raises(UnsupportedOp, match="opaque ONNX block"):
            to_tflite(example.lower())
    else:
        check(example.lower(), kernels)


@pytest.mark.parametrize("kernels", RESOLVERS)
@pytest.mark.parametrize(
    "op",
    [
        ops.conv((1, 4, 8, 8), 8, 3, groups=2, activation="relu"),
        ops.mixconv((1, 8, 9, 9), 8, {3: 8, 5: 8}, se_ratio=0.25, activation="swish"),
        ops.head((1, 8, 5, 5), 10, 16, activation="hswish"),
    ],
    ids=lambda op: op.kind,
)
def test_float16_weights_are_stored_as_such_and_dequantised(op, kernels):
    graph = op.lower()
    operators = check(graph, kernels, "float16")
    weighted = sum(node.primitive in ("conv", "fc") for node in graph.nodes)
    assert operators.count("DEQUANTIZE") == 2 * weighted
    nodes = interpret(to_tflite(graph, "float16"), kernels)._get_ops_details()
    stored = [node["operand_types"] for node in nodes if node["op_name"] == "DEQUANTIZE"]
    assert stored == [[np.float16]] * 2 * weighted


def test_network_is_one_model():
    chain = [
        ops.conv((1, 3, 32, 32), 8, 3, stride=2, activation="relu6"),
        ops.mbconv((1, 8, 16, 16), 8, 3, 3, activation="relu6"),
        ops.mixconv((1, 8, 16, 16), 12, {3: 16, 5: 8}, stride=2, se_ratio=0.25, activation="relu"),
        ops.pool((1, 12, 8, 8), "max", 3, stride=2),
        ops.head((1, 12, 4, 4), 10, 24, activation="hswish"),
    ]
    operators = check(ops.lower(chain))
    assert "TRANSPOSE" not in operators


def test_image_tensors_are_nhwc_and_carry_the_graphs_names():
    graph = ops.conv((2, 3, 10, 6), 8, 3).lower()
    interpreter = interpret(to_tflite(graph), "kernels")
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert tuple(taken["shape"]) == nhwc((2, 3, 10, 6)) == (2, 10, 6, 3)
    assert tuple(given["shape"]) == (2, 10, 6, 8)
    assert interpreter.get_signature_list() == {
        SIGNATURE: {"inputs": list(graph.inputs), "outputs": list(graph.outputs)}
    }


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("side", [6, 7, 8, 9])
@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["conv", "depthwise", "max", "avg"])
def test_padding_is_symmetric_whatever_side_and_stride(kind, kernel, side, stride):
    builder = GraphBuilder()
    x = builder.input((1, 4, side, side + 1))
    if kind in ("max", "avg"):
        y = builder.pool(x, kind, kernel, stride)
    else:
        y = builder.conv(x, 4, kernel, stride, groups=4 if kind == "depthwise" else 1)
    check(builder.build(y))


def test_pad_operator_stands_only_where_same_padding_differs():
    assert operators_of(ops.conv((1, 4, 9, 9), 4, 3, stride=2)) == ["CONV_2D"]
    assert operators_of(ops.conv((1, 4, 8, 8), 4, 3)) == ["CONV_2D"]
    assert operators_of(ops.conv((1, 4, 8, 8), 4, 1, stride=2)) == ["CONV_2D"]
    assert operators_of(ops.conv((1, 4, 8, 8), 4, 3, stride=2)) == ["PAD", "CONV_2D"]
    assert operators_of(ops.pool((1, 4, 8, 8), "max", 3, stride=2)) == ["PADV2", "MAX_POOL_2D"]


def test_padding_of_max_pool_never_wins_over_negative_values():
    builder = GraphBuilder()
    pooled = builder.pool(builder.input((1, 2, 8, 8)), "max", 3, 2)
    interpreter = interpret(to_tflite(builder.build(pooled)), "xnnpack")
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(taken["index"], np.full((1, 8, 8, 2), -7, dtype=np.float32))
    interpreter.invoke()
    np.testing.assert_array_equal(interpreter.get_tensor(given["index"]), -7)


def test_relu_is_part_of_the_operator_before_it_and_hswish_is_not():
    image = (1, 8, 8, 8)
    assert operators_of(ops.conv(image, 8, 3, activation="relu6")) == ["CONV_2D"]
    assert operators_of(ops.conv(image, 8, 3, activation="hswish")) == ["CONV_2D", "HARD_SWISH"]
    assert operators_of(ops.fc((2, 16), 10, activation="relu")) == ["FULLY_CONNECTED"]
    assert operators_of(ops.activation(image, "relu")) == ["RELU"]


def test_relu_behind_a_concatenation_goes_into_its_convolutions():
    operators = operators_of(ops.mixconv((1, 8, 8, 8), 8, {3: 8, 5: 8}, activation="relu"))
    assert "RELU" not in operators
    assert operators.count("DEPTHWISE_CONV_2D") == 2


def test_relu_stays_an_operator_where_something_else_reads_its_input():
    builder = GraphBuilder()
    x = builder.input((1, 4, 6, 6))
    y = builder.conv(x, 4)
    shared = builder.add(builder.activation(y, "relu"), y)
    joined = builder.concat([x, builder.conv(x, 4)])
    operators = check(builder.build(shared, builder.activation(joined, "relu")))
    assert operators.count("RELU") == 2


def test_relu_stays_where_its_input_is_an_output_of_the_network():
    builder = GraphBuilder()
    y = builder.conv(builder.input((1, 4, 6, 6)), 4)
    assert check(builder.build(y, builder.activation(y, "relu6"))) == ["CONV_2D", "RELU6"]


def test_flatten_keeps_the_order_of_the_graph():
    builder = GraphBuilder()
    x = builder.input((2, 3, 4, 5))
    wide = builder.fc(builder.flatten(x), 6)
    assert check(builder.build(wide)) == ["TRANSPOSE", "RESHAPE", "FULLY_CONNECTED"]
    builder = GraphBuilder()
    pixel = builder.flatten(builder.global_avg_pool(builder.input((2, 3, 4, 5))))
    assert check(builder.build(pixel)) == ["MEAN", "RESHAPE"]


def test_identity_costs_nothing_inside_a_network_and_a_copy_at_its_end():
    builder = GraphBuilder()
    y = builder.conv(builder.identity(builder.input((1, 4, 6, 6))), 4)
    assert check(builder.build(builder.add(y, builder.identity(y)))) == ["CONV_2D", "ADD"]
    assert operators_of(ops.skip((1, 4, 6, 6))) == ["RESHAPE"]


def test_depthwise_with_more_outputs_than_inputs_and_flat_concatenation():
    builder = GraphBuilder()
    x = builder.input((1, 4, 6, 6))
    assert check(builder.build(builder.conv(x, 12, 3, groups=4))) == ["DEPTHWISE_CONV_2D"]
    builder = GraphBuilder()
    flat = builder.input((2, 6))
    left, right = builder.split(flat, [4, 2])
    check(builder.build(builder.concat([right, left])))


def test_same_graph_gives_the_same_bytes():
    graph = ops.mbconv((1, 8, 8, 8), 8, 3, 2).lower()
    assert to_tflite(graph) == to_tflite(dataclasses.replace(graph))


def test_constants_start_at_multiples_of_sixteen_bytes():
    model = to_tflite(ops.mixconv((1, 6, 9, 9), 6, {3: 5, 5: 7}, activation="relu").lower())
    root = schema.Model.GetRootAs(model)
    start = np.frombuffer(model, dtype=np.uint8).ctypes.data
    buffers = [root.Buffers(index) for index in range(root.BuffersLength())]
    places = [b.DataAsNumpy().ctypes.data - start for b in buffers if b.DataLength()]
    assert len(places) > 8
    assert {place % 16 for place in places} == {0}


def test_writer_tells_operators_of_one_code_and_several_versions_apart():
    writer = TfliteWriter()
    x, y, z = (writer.tensor(name, (1, 2)) for name in "xyz")
    writer.operator("RELU", [x], [y])
    writer.operator("RELU", [y], [z], version=2)
    model = schema.Model.GetRootAs(writer.finish({"x": x}, {"z": z}))
    assert [model.OperatorCodes(i).Version() for i in range(model.OperatorCodesLength())] == [1, 2]
