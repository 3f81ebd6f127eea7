"""Units are those that the runtime compiles: held against the model that ONNX Runtime itself saves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from hwprof import ops
from hwprof.graph.onnx_emitter import to_onnx
from hwprof.models.graph_model import model_of_graph
from hwprof.models.reading import model_of
from hwprof.models.split import block_channels, split
from hwprof.ops import OpSpec

SAME = {"FusedConv": "Conv", "FusedGemm": "Gemm", "QuickGelu": "Swish", "MatMul": "Gemm"}


def block_here() -> int:
    from hwprof.environment import machine_identity

    identity = {"runtime": "onnxruntime", "provider": "CPUExecutionProvider", **machine_identity()}
    block = block_channels(identity, "float32")
    if block is None:
        pytest.skip("ONNX Runtime has no blocked layout on this machine")
    return block


def of_runtime(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """Nodes of the model that the runtime saves after all its optimisations."""
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: Counter[str] = Counter()
    for node in onnx.load(folder / "optimised.onnx").graph.node:
        kind = SAME.get(node.op_type, node.op_type)
        summed = node.op_type in ("Conv", "FusedConv") and len(node.input) > 3
        activation = [a.s.decode() for a in node.attribute if a.name == "activation"]
        blocked = "nchwc" in node.domain and "Reorder" not in kind
        found["blocked " * blocked + "+".join([kind, *["Add"] * summed, *activation])] += 1
    return found


def of_ours(model: onnx.ModelProto, block: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for unit in split(model_of(model, "m"), block).units:
        first = unit.terms[0].kind if unit.terms else ""
        blocked = first.startswith(("conv_", "blocked_"))
        kind = unit.kind.replace("MatMul", "Gemm")
        if blocked:
            kind = kind.replace("BatchNormalization", "Conv")
        found["blocked " * blocked + kind] += 1
    return found


def residual(m: Any) -> onnx.ModelProto:
    a = m.op("Relu", m.conv("x", 3, 64, 7, 2))
    a = m.op("MaxPool", a, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    x = m.conv(m.op("Relu", m.norm(m.conv(a, 64, 64, 3), 64)), 64, 64, 3)
    x = m.op("Relu", m.op("Add", m.norm(x, 64), a))
    z = m.conv(m.op("Relu", m.conv(x, 64, 128, 3, 2)), 128, 128, 3)
    z = m.op("Relu", m.op("Add", z, m.conv(x, 64, 128, 1, 2)))
    z = m.op("Flatten", m.op("GlobalAveragePool", z))
    return m.model(m.op("Gemm", z, m.constant(np.ones((10, 128), np.float32)), transB=1))


def dense(m: Any) -> onnx.ModelProto:
    a = m.conv("x", 3, 64, 3, 2)
    b = m.conv(m.op("Relu", m.norm(a, 64)), 64, 128)
    b = m.conv(m.op("Relu", m.norm(b, 128)), 128, 32, 3)
    c = m.op("Concat", a, b, axis=1)
    d = m.conv(m.op("Relu", m.norm(c, 96)), 96, 48)
    return m.model(m.op("AveragePool", d, kernel_shape=[2, 2], strides=[2, 2]))


def shuffle(m: Any) -> onnx.ModelProto:
    """24 channels in halves: no multiple of a block."""
    a = m.op("Relu", m.conv("x", 3, 24, 3, 2))
    left, right = m.split(a, 12, 12)
    right = m.conv(m.op("Relu", m.conv(right, 12, 12)), 12, 12, 3, 1, 12)
    c = m.op("Concat", left, m.op("Relu", m.conv(right, 12, 12)), axis=1)
    c = m.op("Reshape", c, m.constant(np.array([1, 2, 12, 16, 16])))
    c = m.op(
        "Reshape", m.op("Transpose", c, perm=[0, 2, 1, 3, 4]), m.constant(np.array([1, 24, 16, 16]))
    )
    return m.model(m.conv(c, 24, 48))


def unaligned(m: Any) -> onnx.ModelProto:
    """Channels that are no multiple of 4 stay on NCHW, groups of 8 too."""
    a = m.conv(m.op("Relu", m.conv("x", 3, 58, 3)), 58, 58, 3, 1, 58)
    b = m.op("Relu", m.op("Add", m.conv(a, 58, 58), a))
    c = m.op("Relu", m.conv(m.conv(b, 58, 48), 48, 48, 3, 1, 6))
    return m.model(m.op("MaxPool", m.conv(c, 48, 34), kernel_shape=[3, 3], strides=[1, 1]))


def swish(m: Any) -> onnx.ModelProto:
    a = m.conv("x", 3, 32, 3, 2)
    a = m.op("Mul", a, m.op("Sigmoid", a))
    s = m.op("Relu", m.conv(m.op("GlobalAveragePool", a), 32, 8))
    a = m.op("Mul", m.op("Sigmoid", m.conv(s, 8, 32)), a)
    a = m.op("ReduceMean", m.conv(a, 32, 64), m.constant(np.array([2, 3])), keepdims=0)
    a = m.op("MatMul", a, m.constant(np.ones((64, 32), np.float32)))
    return m.model(m.op("Add", a, m.constant(np.ones(32, np.float32))))


def loose_activations(m: Any) -> onnx.ModelProto:
    """After a concat of blocks, which activations are computed on blocks and which are not."""
    a = m.op("Concat", m.conv("x", 3, 32), m.conv("x", 3, 16), axis=1)
    b = m.op("Relu", m.conv(m.relu6(a), 48, 16))
    c = m.op("Concat", b, m.conv(m.op("Sigmoid", a), 48, 32), axis=1)
    d = m.conv(m.op("HardSwish", c), 48, 16)
    return m.model(m.op("HardSwish", m.conv(m.op("HardSwish", d), 16, 16)))


def padded_and_scaled(m: Any) -> onnx.ModelProto:
    x = m.op("Pad", "x", m.constant(np.array([0, 0, 0, 0, 0, 0, 1, 1])))
    x = m.op("Relu", m.norm(m.conv(x, 3, 32, 3, 2), 32))
    x = m.op("Mul", m.conv(x, 32, 32), m.constant(np.full((32, 1, 1), 2, np.float32)))
    return m.model(m.op("Relu", m.op("Add", x, m.constant(np.ones((32, 1, 1), np.float32)))))


NETWORKS: tuple[Callable[[Any], onnx.ModelProto], ...] = (
    residual, dense, shuffle, unaligned, swish, loose_activations, padded_and_scaled,
)  # fmt: skip


@pytest.mark.parametrize("make", NETWORKS, ids=lambda make: make.__name__)
def test_units_are_the_nodes_of_the_runtimes_own_optimised_model(
    tmp_path: Path, maker: Any, make: Callable[[Any], onnx.ModelProto]
) -> None:
    model = make(maker((1, 3, 32, 32)))
    assert of_ours(model, block_here()) == of_runtime(model, tmp_path)


def test_a_mobile_network_with_gates_is_split_as_the_runtime_does(
    tmp_path: Path, network: onnx.ModelProto
) -> None:
    assert of_ours(network, block_here()) == of_runtime(network, tmp_path)


ROWS = (
    ops.conv((1, 3, 32, 32), 24, 3, stride=2, activation="swish"),
    ops.conv((1, 58, 14, 14), 60, activation="relu"),
    ops.conv((1, 64, 14, 14), 64, 3, groups=4, activation="relu6"),
    ops.depthwise((1, 40, 14, 14), 5, stride=2, activation="hswish"),
    ops.mbconv((1, 32, 14, 14), 32, 3, 3, activation="hswish", se_ratio=0.25),
    ops.mixconv((1, 32, 14, 14), 48, {3: 48, 5: 48}, activation="swish"),
    ops.fused_mbconv((1, 16, 14, 14), 16, 3, 4),
    OpSpec("basic_block", (1, 32, 16, 16), 64, mix=((3, 64),), stride=2, activation="relu"),
    ops.squeeze_excite((1, 72, 14, 14)),
    ops.activation((1, 40, 14, 14), "hswish"),
    ops.pool((1, 32, 14, 14), "max", 3, stride=2),
    ops.pool((1, 40, 14, 14), "avg", 3),
    ops.head((1, 32, 7, 7), 10, 64, activation="hswish"),
    ops.fc((1, 64), 10, activation="relu"),
)


@pytest.mark.parametrize("op", ROWS, ids=lambda op: op.label)
def test_a_rows_op_is_split_as_the_runtime_does(tmp_path: Path, op: OpSpec) -> None:
    graph = op.lower()
    ours: Counter[str] = Counter()
    for unit in split(model_of_graph(graph), block_here()).units:
        blocked = bool(unit.terms) and unit.terms[0].kind.startswith(("conv_", "blocked_"))
        ours["blocked " * blocked + unit.kind] += 1
    assert ours == of_runtime(to_onnx(graph), tmp_path)


def test_a_row_is_split_into_the_same_terms_by_its_graph_and_by_its_onnx() -> None:
    for op in ROWS:
        graph = op.lower()
        by_graph = split(model_of_graph(graph), 16)
        by_onnx = split(model_of(to_onnx(graph), "m"), 16)
        assert [u.terms for u in by_graph.units] == [u.terms for u in by_onnx.units]
        assert by_graph.weight_bytes == by_onnx.weight_bytes


def test_a_product_of_a_turned_matrix_once_had_the_wrong_length(maker: Any) -> None:
    terms = []
    for turned in (0, 1):
        m = maker((4096, 2) if turned else (2, 4096))
        weight = m.constant(np.ones((4096, 16), np.float32))
        read = model_of(m.model(m.op("Gemm", "x", weight, transA=turned)), "m")
        (unit,) = split(read, None).units
        terms.append(unit.terms)
    assert terms[0] == terms[1]


def test_without_a_blocked_layout_nothing_is_reordered(network: onnx.ModelProto) -> None:
    units = split(model_of(network, "m"), None).units
    assert not any("Reorder" in unit.kind for unit in units)
    assert {t.kind for u in units for t in u.terms} >= {
        "plain_dense",
        "plain_pointwise",
        "plain_depthwise",
    }


@pytest.mark.parametrize(
    ("told", "block"),
    [
        ({"instruction_sets": ["avx", "avx2", "avx512f"]}, 16),
        ({"instruction_sets": ["avx", "avx2"]}, 8),
        ({"instruction_sets": ["asimd"]}, None),
        ({"instruction_sets": ["avx512f"], "graph_optimization": "basic"}, None),
        ({"instruction_sets": ["avx512f"], "provider": "CUDAExecutionProvider"}, None),
        ({"instruction_sets": ["avx512f"], "runtime": "pytorch"}, None),
    ],
)
def test_the_block_follows_from_the_rows_environment(told: dict[str, Any], block: int | None) -> None:
    identity = {"runtime": "onnxruntime", "provider": "CPUExecutionProvider", **told}
    assert block_channels(identity, "float32") == block
    assert block_channels(identity, "float16") is None


def test_every_operator_of_a_model_is_in_exactly_one_unit_or_folded(network: onnx.ModelProto) -> None:
    units = split(model_of(network, "m"), 16).units
    named = Counter(
        name for unit in units if "Reorder" not in unit.kind for name in unit.name.split(" + ")
    )
    assert set(named) == {node.name for node in network.graph.node}
    assert set(named.values()) == {1}
