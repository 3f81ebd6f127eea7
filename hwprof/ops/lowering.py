"""From ops to a Graph: one op, a chain of ops, a whole network."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from hwprof.errors import OpError
from hwprof.graph import Graph, GraphBuilder
from hwprof.ops.spec import OpSpec
from hwprof.ops.vocabulary import KINDS


def append_op(builder: GraphBuilder, tensor: str, spec: OpSpec, gain: float = 1.0) -> str:
    """Append one op to a graph under construction and return its output tensor.

    Raises:
        OpError: the tensor is not of the shape that the op was specified for.
    """
    shape = builder.shape(tensor)
    if shape != spec.shape:
        raise OpError(f"{spec.label} wants an input of shape {spec.shape}, the chain hands it {shape}")
    return KINDS[spec.kind].lower(builder, tensor, spec, gain)


def residual_gain(ops: Sequence[OpSpec]) -> float:
    """1/sqrt(number of residual blocks): keeps the sum of all branches at the input's variance.

    A `basic_block` always has a shortcut, whatever its `residual` says.
    """
    return 1.0 / sqrt(max(1, sum(op.residual or op.kind == "basic_block" for op in ops)))


def lower(ops: Sequence[OpSpec]) -> Graph:
    """A chain of ops, each fed by the one before, as one Graph.

    Raises:
        OpError: the chain is empty, mixes dtypes, or two neighbours' shapes do not meet.
    """
    if not ops:
        raise OpError("a chain needs at least one op")
    if len({op.dtype for op in ops}) != 1:
        raise OpError(f"a chain has one dtype, got {sorted({op.dtype for op in ops})}")
    gain = residual_gain(ops)
    builder = GraphBuilder(dtype=ops[0].dtype)
    tensor = builder.input(ops[0].shape)
    for op in ops:
        tensor = append_op(builder, tensor, op, gain)
    return builder.build(tensor)


def output_shape(spec: OpSpec) -> tuple[int, ...]:
    """Shape of the op's output."""
    graph = spec.lower()
    return tuple(graph.shapes[graph.outputs[0]])
