"""The Graph builder infers shapes and refuses what does not fit."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hwprof.errors import OpError
from hwprof.graph import Graph, GraphBuilder

WRONG: dict[str, tuple[Callable[[GraphBuilder, str], object], str]] = {
    "groups": (lambda b, x: b.conv(x, 8, groups=5), "6 input and 8 output channels .* 5 groups"),
    "large pool": (
        lambda b, x: b.pool(x, "max", 6, 1),
        "max pool: kernel 6 is larger than its input of 8x5",
    ),
    "image into fc": (lambda b, x: b.fc(x, 10), r"flattened input, got shape \(1, 6, 8, 5\)"),
    "vector into conv": (lambda b, x: b.conv(b.flatten(x), 8), r"NCHW input, got shape \(1, 240\)"),
    "vector into pool": (lambda b, x: b.global_avg_pool(b.flatten(x)), "NCHW input"),
    "activation": (lambda b, x: b.activation(x, "gelu"), "'gelu' is not one of none, relu"),
    "add": (lambda b, x: b.add(x, b.conv(x, 7)), r"\(1, 6, 8, 5\) and \(1, 7, 8, 5\) do not broadcast"),
    "mul": (lambda b, x: b.mul(x, b.flatten(x)), "do not broadcast"),
    "concat": (lambda b, x: b.concat([x, b.conv(x, 6, stride=2)]), "differ beyond their channels"),
    "split": (lambda b, x: b.split(x, [2, 3]), r"parts \(2, 3\) do not add up to 6"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused(name: str) -> None:
    make, words = WRONG[name]
    builder = GraphBuilder()
    with pytest.raises(OpError, match=words):
        make(builder, builder.input((1, 6, 8, 5)))


def test_shapes_follow_from_the_primitives() -> None:
    builder = GraphBuilder("float16")
    x = builder.input((2, 6, 9, 8))
    y = builder.conv(x, 10, 3, stride=2)
    left, right = builder.split(y, [4, 6])
    joined = builder.concat([right, builder.conv(left, 4)])
    z = builder.mul(joined, builder.global_avg_pool(joined))
    graph = builder.build(builder.flatten(z))
    assert builder.shape(y) == (2, 10, 5, 4)
    assert builder.shape(z) == (2, 10, 5, 4)
    assert graph.shapes[graph.outputs[0]] == (2, 200)
    assert graph.dtype == "float16"


def test_a_graph_can_have_several_inputs_and_outputs() -> None:
    builder = GraphBuilder()
    a, b = builder.input((1, 3, 4, 4)), builder.input((1, 3, 4, 4))
    graph = builder.build(builder.add(a, b), builder.identity(a))
    assert graph.inputs == ("x0", "x1")
    assert len(graph.outputs) == 2


def test_every_tensor_has_one_producer_and_a_shape() -> None:
    builder = GraphBuilder()
    x = builder.input((1, 6, 8, 8))
    parts = builder.split(x, [2, 2, 2])
    graph: Graph = builder.build(builder.concat([builder.activation(p, "relu") for p in parts]))
    produced = [name for node in graph.nodes for name in node.outputs]
    assert len(produced) == len(set(produced))
    assert set(produced) | set(graph.inputs) == set(graph.shapes)
