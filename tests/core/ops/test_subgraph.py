"""A user's own block becomes an op that is named by what it computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwprof import ops
from hwprof.errors import OpError
from hwprof.graph import GraphBuilder, cost
from hwprof.graph.onnx_emitter import to_onnx
from hwprof.graph.reference import run_reference

Shape = tuple[int | str, ...]


def block(
    *,
    prefix: str = "",
    scale: float = 2.0,
    shape: Shape = (1, 4, 6, 6),
    element: int = TensorProto.FLOAT,
    opset: int = 18,
) -> onnx.ModelProto:
    """y = relu(x * scale) with tensor names of one's own."""
    dtype = helper.tensor_dtype_to_np_dtype(element)
    weight = numpy_helper.from_array(np.full((1, 4, 1, 1), scale, dtype=dtype), f"{prefix}w")
    graph = helper.make_graph(
        [
            helper.make_node("Mul", [f"{prefix}in", f"{prefix}w"], [f"{prefix}m"], name=f"{prefix}n"),
            helper.make_node("Relu", [f"{prefix}m"], [f"{prefix}out"]),
        ],
        f"{prefix}graph",
        [helper.make_tensor_value_info(f"{prefix}in", element, shape)],
        [helper.make_tensor_value_info(f"{prefix}out", element, shape)],
        initializer=[weight],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], producer_name=prefix, ir_version=8
    )


def nodes_only(
    nodes: list[onnx.NodeProto], output: Shape, opset: int = 18, **more: object
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4, 6, 6))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, **more)


def test_names_do_not_change_the_op_but_weights_do() -> None:
    op = ops.from_onnx(block())
    assert ops.from_onnx(block(prefix="encoder.")) == op
    assert ops.from_onnx(block(scale=3.0)).op_id != op.op_id


def test_a_file_and_the_model_in_it_are_the_same_op(tmp_path: Path) -> None:
    onnx.save(block(), str(tmp_path / "block.onnx"))
    assert ops.from_onnx(tmp_path / "block.onnx") == ops.from_onnx(block())


def test_the_block_is_kept_under_its_hash(block_store: Path) -> None:
    op = ops.from_onnx(block())
    assert [path.stem for path in block_store.iterdir()] == [op.content]
    assert (op.kind, op.shape, op.out_channels, op.out_side) == ("subgraph", (1, 4, 6, 6), 4, (6, 6))


def test_it_runs_and_is_emitted_between_other_ops() -> None:
    op = ops.from_onnx(block())
    graph = ops.lower(
        [ops.conv((1, 3, 6, 6), 4), op, ops.from_onnx(block(scale=3.0)), ops.skip(op.shape)]
    )
    onnx.checker.check_model(to_onnx(graph), full_check=True)
    x = np.random.default_rng(0).standard_normal((1, 3, 6, 6))
    before = run_reference(ops.conv((1, 3, 6, 6), 4).lower(), {"x0": x})[0]
    after = run_reference(graph, {"x0": x})[0]
    np.testing.assert_allclose(after, np.maximum(6.0 * np.maximum(before, 0), 0), rtol=1e-6)


def test_a_half_precision_block_stays_half_precision() -> None:
    op = ops.from_onnx(block(element=TensorProto.FLOAT16), dtype="float16")
    onnx.checker.check_model(to_onnx(op.lower()), full_check=True)
    assert cost(op.lower()).bytes_moved == 2 * (3 * 144 + 4)
    assert run_reference(op.lower(), {"x0": np.ones((1, 4, 6, 6))})[0].max() == 2.0


def test_an_older_opset_is_raised_so_that_blocks_can_share_a_network() -> None:
    old = nodes_only([helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3])], (1, 4, 1, 1), opset=11)
    graph = ops.lower([ops.from_onnx(block()), ops.from_onnx(old)])
    model = to_onnx(graph)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
    assert run_reference(graph, {"x0": np.ones((1, 4, 6, 6))})[0].tolist() == [[[[2.0]]] * 4]


def test_two_blocks_of_different_newer_opsets_are_refused() -> None:
    graph = ops.lower([ops.from_onnx(block()), ops.from_onnx(block(opset=21))])
    with pytest.raises(OpError, match="opset 21, another block of this network 18"):
        to_onnx(graph)


def test_local_functions_are_inlined() -> None:
    twice = helper.make_function(
        "local", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 18)],
    )  # fmt: skip
    model = nodes_only([helper.make_node("Twice", ["x"], ["y"], domain="local")], (1, 4, 6, 6))
    model.functions.append(twice)
    model.opset_import.append(helper.make_opsetid("local", 1))
    plain = nodes_only([helper.make_node("Add", ["x", "x"], ["y"])], (1, 4, 6, 6))
    op = ops.from_onnx(model)
    onnx.checker.check_model(to_onnx(op.lower()), full_check=True)
    assert cost(op.lower()) == cost(ops.from_onnx(plain).lower())


def test_the_cost_of_convolutions_and_products_is_counted() -> None:
    builder = GraphBuilder()
    x = builder.input((1, 4, 6, 6))
    y = builder.fc(builder.flatten(builder.conv(x, 8, 3, stride=2)), 5)
    op = ops.from_onnx(to_onnx(builder.build(y)))
    assert cost(op.lower()).flops == 2 * (8 * 9 * 4 * 9 + 72 * 5)
    assert cost(op.lower()).parameters == 8 * 4 * 9 + 8 + 72 * 5 + 5


def control_flow() -> onnx.ModelProto:
    value = helper.make_tensor_value_info("branch", TensorProto.FLOAT, (1, 4, 6, 6))
    body = helper.make_graph([helper.make_node("Identity", ["x"], ["branch"])], "body", [], [value])
    flag = numpy_helper.from_array(np.asarray(True), "flag")
    model = nodes_only(
        [helper.make_node("If", ["flag"], ["y"], then_branch=body, else_branch=body)], (1, 4, 6, 6)
    )
    model.graph.initializer.append(flag)
    return model


def external() -> onnx.ModelProto:
    model = block()
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "weights.bin")
    return model


def two_outputs() -> onnx.ModelProto:
    model = block()
    model.graph.output.append(helper.make_tensor_value_info("m", TensorProto.FLOAT, (1, 4, 6, 6)))
    return model


REFUSED = {
    "control flow": (control_flow, "control flow"),
    "external data": (external, "external data; save it as a single file"),
    "dynamic batch": (lambda: block(shape=("batch", 4, 6, 6)), "dynamic or unknown shape"),
    "two outputs": (two_outputs, "one input and one output, got 1 and 2"),
    "integer input": (lambda: block(element=TensorProto.INT64), "float32, got int64"),
    "other precision": (lambda: block(element=TensorProto.FLOAT16), "float32, got float16"),
    "changed batch": (
        lambda: nodes_only(
            [helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0, 2, 3])], (4, 1, 6, 6)
        ),
        "keeps its batch; got 1 in and 4 out",
    ),
    "broken graph": (
        lambda: nodes_only([helper.make_node("Relu", ["nowhere"], ["y"])], (1, 4, 6, 6)),
        "ONNX checker",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_cannot_be_priced_is_refused_in_one_line(name: str, block_store: Path) -> None:
    make, words = REFUSED[name]
    with pytest.raises(OpError, match=words) as caught:
        ops.from_onnx(make())
    assert "\n" not in str(caught.value)
    assert not block_store.exists()


def test_an_operator_of_unknown_shape_is_refused() -> None:
    model = nodes_only(
        [
            helper.make_node("Mystery", ["x"], ["m"], domain="vendor"),
            helper.make_node("Relu", ["m"], ["y"]),
        ],
        (1, 4, 6, 6),
    )
    model.opset_import.append(helper.make_opsetid("vendor", 1))
    with pytest.raises(OpError, match="what shape Mystery of the block returns"):
        ops.from_onnx(model)


def test_a_subgraph_has_a_floating_dtype() -> None:
    with pytest.raises(OpError, match="float32 or float16, got 'int8'"):
        ops.from_onnx(block(), dtype="int8")


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.onnx"
    path.write_bytes(b"\xff\xff no model")
    with pytest.raises(OpError, match=r"notes\.onnx is no ONNX model"):
        ops.from_onnx(path)
    with pytest.raises(OpError, match=r"absent\.onnx is no ONNX model"):
        ops.from_onnx(tmp_path / "absent.onnx")


def test_a_damaged_block_is_noticed(block_store: Path) -> None:
    op = ops.from_onnx(block())
    path = block_store / f"{op.content}.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(OpError, match="damaged"):
        to_onnx(op.lower())
