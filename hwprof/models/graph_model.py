"""A row's op as a Model, so that it is split into units as any other model."""

from __future__ import annotations

from collections.abc import Sequence

from hwprof.errors import HwprofError
from hwprof.graph import Graph, Node, Shape
from hwprof.graph.blocks import load_block
from hwprof.graph.graph import pool_padding
from hwprof.models import model as models
from hwprof.models.reading import model_of

_SIMPLE = {
    "add": "Add", "mul": "Mul", "relu": "Relu", "hswish": "HardSwish", "sigmoid": "Sigmoid",
    "global_avg_pool": "GlobalAveragePool", "identity": "Identity", "concat": "Concat",
    "split": "Split", "flatten": "Flatten", "crop": "Slice", "max_pool": "MaxPool",
    "avg_pool": "AveragePool", "relu6": "Clip", "swish": "Swish", "conv": "Conv", "fc": "Gemm",
}  # fmt: skip


def model_of_graph(graph: Graph) -> models.Model:
    """The operators that the ONNX emitter writes for a Graph, without weights.

    Raises:
        OpError: a user's block that is not in the block store.
        ModelError: a block that cannot be split.
    """
    if any(node.primitive == "onnx" for node in graph.nodes):
        return _block_model(graph)
    shapes: dict[str, Shape] = dict(graph.shapes)
    nodes = [_node(graph, index, node, shapes) for index, node in enumerate(graph.nodes)]
    weights = frozenset(name for name in shapes if name not in graph.shapes)
    return models.Model(
        "row", tuple(nodes), graph.inputs, graph.outputs, shapes, weights, {}, {}, graph.dtype
    )


def _node(graph: Graph, index: int, node: Node, shapes: dict[str, Shape]) -> models.Node:
    if node.primitive not in _SIMPLE:
        raise models.ModelError(f"primitive {node.primitive!r} has no ONNX operator here")
    kind = _SIMPLE[node.primitive]
    inputs: Sequence[str] = node.inputs
    attributes: dict[str, object] = {}
    if kind in ("Conv", "Gemm"):
        weight = f"weight {index}"
        shapes[weight] = graph.weight_shape(node)
        inputs = (*inputs, weight)
    if kind == "Conv":
        attributes = {
            "group": node.groups,
            "strides": (node.stride,) * 2,
            "dilations": (node.dilation,) * 2,
        }
    elif kind in ("MaxPool", "AveragePool"):
        attributes = {
            "kernel_shape": (node.kernel,) * 2,
            "strides": (node.stride,) * 2,
            "pads": (pool_padding(node.kernel),) * 4,
        }
    elif kind in ("Concat", "Split"):
        attributes = {"axis": 1}
    return models.Node(kind, node.outputs[0], tuple(inputs), node.outputs, attributes)


def _block_model(graph: Graph) -> models.Model:
    if len(graph.nodes) != 1:
        raise models.ModelError("a network of users' blocks is not split")
    content = graph.nodes[0].content
    return model_of(load_block(content), f"subgraph {content[:12]}")


def known_model(graph: Graph) -> models.Model | None:
    """As `model_of_graph`; None where a row cannot be split, which then teaches nothing."""
    try:
        return model_of_graph(graph)
    except HwprofError:
        return None
