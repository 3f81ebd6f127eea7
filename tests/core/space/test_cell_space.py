"""Cell spaces: the network is the DAG that the cell says, and architecture strings name it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hwprof.errors import SpaceError
from hwprof.graph import Graph
from hwprof.graph.reference import run_reference
from hwprof.graph.weights import node_weights, random_inputs
from hwprof.space import Space, load_space, point_from_string, string_from_point

Array = NDArray[np.float64]
NB201 = load_space("nb201")

SMALL = """\
name: small-cells
family: cell
summary: two stages of NAS-Bench-201 cells on an 8 x 8 image
input: [3, 8, 8]
stem: {channels: 4, kernel: 3, stride: 1, activation: none}
stages:
  - {cells: 2, channels: 4, stride: 1}
  - {cells: 1, channels: 6, stride: 2}
reduction: {kernel: 3, activation: relu}
cell:
  nodes: 4
  choices:
    - {name: none, kind: none}
    - {name: skip_connect, kind: skip}
    - {name: nor_conv_1x1, kind: relu_conv, kernel: 1}
    - {name: nor_conv_3x3, kind: relu_conv, kernel: 3}
    - {name: avg_pool_3x3, kind: pool, pool: avg, kernel: 3}
head: {activation: relu, classes: 5}
"""


@pytest.fixture
def small(tmp_path: Path) -> Space:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return load_space(path)


def convolve(x: Array, kernel: Array, bias: Array, stride: int = 1) -> Array:
    """Plain loops over output pixels, padding kernel // 2."""
    size = kernel.shape[2]
    pad = size // 2
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    side = (x.shape[2] + 2 * pad - size) // stride + 1
    out = np.zeros((x.shape[0], kernel.shape[0], side, side))
    for row, column in product(range(side), repeat=2):
        top, left = row * stride, column * stride
        window = padded[:, :, top : top + size, left : left + size]
        out[:, :, row, column] = np.einsum("ncij,ocij->no", window, kernel) + bias
    return out


def average(x: Array, size: int, stride: int, pad: int) -> Array:
    """Average pool whose padding does not count."""
    side = (x.shape[2] + 2 * pad - size) // stride + 1
    out = np.zeros((*x.shape[:2], side, side))
    for row, column in product(range(side), repeat=2):
        top, left = row * stride - pad, column * stride - pad
        window = x[:, :, max(0, top) : top + size, max(0, left) : left + size]
        out[:, :, row, column] = window.mean(axis=(2, 3))
    return out


def evaluate_by_hand(
    text: str, cells: Sequence[int], x: Array, weights: Iterator[tuple[Array, Array]]
) -> Array:
    """NAS-Bench-201's network written out: `weights` are handed out in order of use. A node without
    input is None."""

    def relu(value: Array) -> Array:
        return np.maximum(value, 0.0)

    edge_ops: dict[str, Callable[[Array], Array]] = {
        "skip_connect": lambda value: value,
        "nor_conv_1x1": lambda value: convolve(relu(value), *next(weights)),
        "nor_conv_3x3": lambda value: convolve(relu(value), *next(weights)),
        "avg_pool_3x3": lambda value: average(value, 3, 1, 1),
    }
    cell = [[e.split("~")[0] for e in node.strip("|").split("|")] for node in text.split("+")]
    x = convolve(x, *next(weights))
    for stage, count in enumerate(cells):
        if stage > 0:
            y = relu(convolve(x, *next(weights), stride=2))
            y = convolve(y, *next(weights))
            x = y + convolve(average(x, 2, 2, 0), *next(weights))
        for _ in range(count):
            nodes: list[Array | None] = [x]
            for incoming in cell:
                total = None
                for source, name in enumerate(incoming):
                    value = nodes[source]
                    if name == "none" or value is None:
                        continue
                    result = edge_ops[name](value)
                    total = result if total is None else total + result
                nodes.append(total)
            assert nodes[-1] is not None
            x = nodes[-1]
    kernel, bias = next(weights)
    return np.asarray(relu(x).mean(axis=(2, 3)) @ kernel.T + bias)


def weights_in_order(graph: Graph) -> Iterator[tuple[Array, Array]]:
    for index, node in enumerate(graph.nodes):
        if node.primitive in ("conv", "fc"):
            kernel, bias = node_weights(graph, index)
            yield kernel.astype(np.float64), bias.astype(np.float64)


@pytest.mark.parametrize(
    "text",
    [
        "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|avg_pool_3x3~2|",
        "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|",
        "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_3x3~2|",
        "|none~0|+|avg_pool_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|skip_connect~2|",
    ],
    ids=["all ops", "skips only", "one path", "a node without input"],
)
def test_network_computes_what_the_cell_says(small: Space, text: str) -> None:
    graph = small.network(point_from_string(small, text))
    inputs = random_inputs(graph, np.random.default_rng(3))
    weights = weights_in_order(graph)
    x = inputs[graph.inputs[0]].astype(np.float64)
    expected = evaluate_by_hand(text, (2, 1), x, weights)
    assert next(weights, None) is None, "the network holds a weight that the cell does not use"
    (output,) = run_reference(graph, inputs)
    np.testing.assert_allclose(output, expected, rtol=1e-9, atol=1e-12)


def test_a_cell_of_one_skip_adds_no_node(small: Space) -> None:
    graph = small.network(
        point_from_string(small, "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")
    )
    primitives = [node.primitive for node in graph.nodes]
    reduction = ["conv", "relu", "conv", "avg_pool", "conv", "add"]
    assert primitives == ["conv", *reduction, "relu", "global_avg_pool", "flatten", "fc"]


def test_edges_into_a_dead_end_are_not_compiled(small: Space) -> None:
    dead = small.network(
        point_from_string(
            small, "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|avg_pool_3x3~0|none~1|none~2|"
        )
    )
    plain = small.network(
        point_from_string(small, "|none~0|+|none~0|none~1|+|avg_pool_3x3~0|none~1|none~2|")
    )
    assert dead == plain


@pytest.mark.parametrize(
    "text",
    [
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
        "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|none~2|",
        "|none~0|+|none~0|skip_connect~1|+|none~0|skip_connect~1|nor_conv_3x3~2|",
    ],
    ids=["all none", "output without input", "source without input"],
)
def test_a_cell_without_path_is_an_error_that_shows_the_cell(text: str) -> None:
    with pytest.raises(SpaceError, match="the cell has no path from its input to its output") as caught:
        NB201.network(point_from_string(NB201, text))
    assert "2->3" in str(caught.value)


def test_networks_of_skips_do_not_grow_without_bound() -> None:
    """Fifteen cells of skips multiply their input by 1e9; the convolutions between take it back, as
    the BatchNorm that is folded into them would."""
    text = (
        "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
    )
    graph = NB201.network(point_from_string(NB201, text))
    (output,) = run_reference(graph, random_inputs(graph, np.random.default_rng(0)))
    assert 1e-3 < np.abs(output).max() < 100


def test_convolutions_behind_sums_keep_unit_variance() -> None:
    text = (
        "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
    )
    graph = NB201.network(point_from_string(NB201, text))
    watched = [node.outputs[0] for node in graph.nodes if node.primitive == "conv"]
    inner = Graph(graph.nodes, graph.inputs, tuple(watched), graph.shapes)
    for value in run_reference(inner, random_inputs(graph, np.random.default_rng(0))):
        assert 0.2 < value.std() < 5


def test_every_cell_has_one_string_and_one_point() -> None:
    edges = [number for number, position in enumerate(NB201.positions) if position.kind == "edge"]
    seen = set()
    for chosen in product(range(5), repeat=6):
        point = [0] * len(NB201.positions)
        for number, choice in zip(edges, chosen, strict=True):
            point[number] = choice
        text = string_from_point(NB201, point)
        assert point_from_string(NB201, text) == tuple(point)
        seen.add(text)
    assert len(seen) == 15625


def test_architecture_string_is_written_as_the_benchmark_writes_it() -> None:
    text = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|none~2|"
    point = point_from_string(NB201, text)
    labels = [
        c.label
        for p, c in zip(NB201.positions, NB201.choices_of(point), strict=True)
        if p.kind == "edge"
    ]
    assert labels == [
        "avg_pool_3x3", "nor_conv_1x1", "skip_connect", "nor_conv_1x1", "skip_connect", "none",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not of the form |OP~0|+|OP~0|OP~1|+|OP~0|OP~1|OP~2|"),
        ("|none~0|+|none~0|none~1|", "is not of the form"),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~1|", "'none~1' stands where edge2-3 is wanted"),
        ("|none~0|none~0|none~1|none~0|none~1|none~2|", "is not of the form"),
        ("|none~0|+|none~0|skip_conect~1|+|none~0|none~1|none~2|", "did you mean 'skip_connect'?"),
    ],
)
def test_a_malformed_string_is_an_error_that_shows_the_form(text: str, message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        point_from_string(NB201, text)
    assert message in str(caught.value)


def test_strings_are_refused_for_chain_spaces() -> None:
    with pytest.raises(SpaceError, match="tiny is a chain space"):
        point_from_string(load_space("tiny"), "|none~0|")
