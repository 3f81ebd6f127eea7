"""Whole networks of a cell space: every cell is one small DAG, repeated in stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import sqrt

from hwprof.errors import SpaceError
from hwprof.graph import Graph, GraphBuilder, Node
from hwprof.ops import append_op
from hwprof.space.choice import Choice

Edge = tuple[int, int]


@dataclass(frozen=True)
class CellLayout:
    """How a space of the family `cell` is put together.

    Its positions stand in this order: stem, the edges of `edges`, one reduction for each stage that
    has one, head. An edge choice lists its op once per cell, stage by stage.

    Attributes:
        nodes: nodes of a cell; node 0 is its input, the last one its output.
        cells: cells of each stage.
        reduced: whether a stage begins with a reduction block.
    """

    nodes: int
    cells: tuple[int, ...]
    reduced: tuple[bool, ...]

    @property
    def edges(self) -> tuple[Edge, ...]:
        """(from, to) pairs by target node, then source: the order of NAS-Bench-201 strings."""
        return tuple((i, j) for j in range(1, self.nodes) for i in range(j))


def cell_network(layout: CellLayout, chosen: Sequence[Choice]) -> Graph:
    """The network of one choice per position, as a single Graph.

    Node j of a cell is the sum of its incoming edges. A `none` edge is left out, and so is a node that
    nothing reaches or that reaches nothing: it adds exactly zero, and a compiler would drop it. A
    skip edge is its source tensor itself.

    Raises:
        SpaceError: no path leads from the cell's input to its output.
    """
    edges = dict(zip(layout.edges, chosen[1:], strict=False))
    live = _live_edges(layout, edges)
    layers = iter(chosen[1 + len(edges) :])
    stem = chosen[0].ops[0]
    builder = GraphBuilder(dtype=stem.dtype)
    tensor = append_op(builder, builder.input(stem.shape), stem)
    first = 0
    for count, reduced in zip(layout.cells, layout.reduced, strict=True):
        if reduced:
            tensor = append_op(builder, tensor, next(layers).ops[0])
        for _ in range(count):
            tensor = _append_cell(builder, tensor, layout.nodes, live, first)
        first += count
    tensor = append_op(builder, tensor, next(layers).ops[0])
    return balanced(builder.build(tensor))


def balanced(graph: Graph) -> Graph:
    """The same Graph with gains under which every convolution gives about unit variance, as the
    BatchNorm folded into it would.

    A cell of four nodes joined by skips multiplies its input by 4, fifteen of them by 1e9, and no
    skip may be scaled. So each weighted node is divided by the standard deviation of its input. That
    is exact for sums of the same tensor: every tensor is followed as a linear form over the outputs
    of weighted nodes, which are taken to be independent. A pool counts as the identity, an upper
    bound; a concatenation as a tensor of its own with the mean variance of its parts. For Graphs
    without `mul`, `split` or opaque blocks, which is all that a cell space can hold.
    """
    forms: dict[str, dict[str, float]] = {name: {name: 1.0} for name in graph.inputs}
    nodes: list[Node] = []
    for node in graph.nodes:
        form = forms[node.inputs[0]]
        output = node.outputs[0]
        if node.primitive in ("conv", "fc"):
            deviation = sqrt(sum(v * v for v in form.values()))
            node = replace(node, gain=node.gain / deviation)
            forms[output] = {output: 1.0}
        elif node.primitive == "add":
            other = forms[node.inputs[1]]
            names = (*form, *(n for n in other if n not in form))
            forms[output] = {n: form.get(n, 0.0) + other.get(n, 0.0) for n in names}
        elif node.primitive == "concat":
            widths = [graph.shapes[name][1] for name in node.inputs]
            squares = [sum(v * v for v in forms[name].values()) for name in node.inputs]
            mean = sum(w * s for w, s in zip(widths, squares, strict=True)) / sum(widths)
            forms[output] = {output: sqrt(mean)}
        else:
            forms[output] = form
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _append_cell(
    builder: GraphBuilder, tensor: str, nodes: int, live: dict[Edge, Choice], first: int
) -> str:
    """`first` is the index of the stage's ops within an edge choice."""
    values = {0: tensor}
    for target in range(1, nodes):
        parts = []
        for source in range(target):
            choice = live.get((source, target))
            if choice is None:
                continue
            value = values[source]
            parts.append(append_op(builder, value, choice.ops[first]) if choice.ops else value)
        if parts:
            values[target] = reduce(builder.add, parts)
    return values[nodes - 1]


def _live_edges(layout: CellLayout, edges: dict[Edge, Choice]) -> dict[Edge, Choice]:
    """Edges on a path from the cell's input to its output."""
    open_edges = [edge for edge in layout.edges if not edges[edge].cut]
    reached, leading = {0}, {layout.nodes - 1}
    for source, target in open_edges:
        if source in reached:
            reached.add(target)
    for source, target in reversed(open_edges):
        if target in leading:
            leading.add(source)
    live = {(i, j): edges[i, j] for i, j in open_edges if i in reached and j in leading}
    if not live:
        labels = ", ".join(f"{i}->{j} {edges[i, j].label}" for i, j in layout.edges)
        raise SpaceError(
            f"the cell has no path from its input to its output ({labels}); open an edge or sample again"
        )
    return live
