"""Analytic cost of a Graph: FLOPs, parameters, bytes moved."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from hwprof.graph.blocks import block_cost
from hwprof.graph.graph import ACTIVATIONS, Graph, Node

DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}


@dataclass(frozen=True)
class Cost:
    """`flops` counts a multiply-accumulate as two; `bytes_moved` counts each tensor that a primitive
    reads or writes and its weights once. An activation counts as fused into its producer and moves
    nothing, unless it reads the graph's own input."""

    flops: int
    parameters: int
    bytes_moved: int


def cost(graph: Graph) -> Cost:
    """Sum over the nodes."""
    costs = [node_cost(graph, node) for node in graph.nodes]
    return Cost(
        sum(c.flops for c in costs), sum(c.parameters for c in costs), sum(c.bytes_moved for c in costs)
    )


def node_cost(graph: Graph, node: Node) -> Cost:
    """Of one node. An opaque ONNX block is counted by `block_cost`."""
    if node.primitive == "onnx":
        return Cost(*block_cost(node.content))
    weights = node_parameters(graph, node)
    moved = 0
    fused = node.primitive in ACTIVATIONS and node.inputs[0] not in graph.inputs
    if not fused and node.primitive not in ("identity", "flatten"):
        tensors = sum(prod(graph.shapes[t]) for t in (*node.inputs, *node.outputs))
        moved = (tensors + weights) * DTYPE_BYTES[graph.dtype]
    return Cost(node_flops(graph, node), weights, moved)


def node_parameters(graph: Graph, node: Node) -> int:
    """Weights and biases of one node, BatchNorm folded away."""
    if node.primitive not in ("conv", "fc"):
        return 0
    return prod(graph.weight_shape(node)) + node.channels


def node_flops(graph: Graph, node: Node) -> int:
    """FLOPs of one node: 2 per multiply-accumulate, 1 per element of an elementwise primitive."""
    if node.primitive in ("conv", "fc"):
        out = graph.shapes[node.outputs[0]]
        per_output = prod(graph.weight_shape(node)[1:])
        return 2 * per_output * prod(out)
    if node.primitive in ("max_pool", "avg_pool"):
        return node.kernel**2 * prod(graph.shapes[node.outputs[0]])
    if node.primitive == "global_avg_pool":
        return prod(graph.shapes[node.inputs[0]])
    if node.primitive in ("add", "mul", *ACTIVATIONS):
        return prod(graph.shapes[node.outputs[0]])
    return 0
