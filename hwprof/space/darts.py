"""Networks of a DARTS space (Liu et al. 2019): a normal and a reduction cell, stacked.

A cell has two inputs, the outputs of the two cells before it, each brought to the cell's width by a
ReLU and a 1x1 convolution (a factorized reduce where its side is twice as long). Nodes 0 and 1 are these
inputs; every later node is the sum of its open edges from earlier ones; the output is the concatenation
of the later nodes. Where an edge of a reduction cell comes from an input, its op has stride 2.

A network of the space is a genotype: of each node's incoming edges two are open, the rest are `none`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from math import comb, log10
from typing import TYPE_CHECKING

from hwprof.errors import SpaceError
from hwprof.graph import Graph, GraphBuilder
from hwprof.ops import append_op
from hwprof.space.cell import Edge, balanced
from hwprof.space.choice import Choice, Position

if TYPE_CHECKING:
    import numpy as np

INPUTS = 2
OPEN_EDGES = 2
CELL_TYPES = ("normal", "reduce")


@dataclass(frozen=True)
class DartsLayout:
    """How a DARTS space is put together.

    Its positions stand in this order: stem, the edges of the normal cell, the edges of the reduction
    cell (both in the order of `edges`), the inputs of each cell, head. An edge choice lists its op once
    for each cell of its type, in order; a cell's inputs are one choice of two ops.

    Attributes:
        nodes: of a cell, without its two inputs.
        reduced: of each cell, whether it is a reduction.
    """

    nodes: int
    reduced: tuple[bool, ...]

    @property
    def edges(self) -> tuple[Edge, ...]:
        """(from, to) pairs by target node, then source: the order of DARTS' architecture parameters."""
        return tuple((i, j) for j in range(INPUTS, INPUTS + self.nodes) for i in range(j))

    def node_edges(self) -> tuple[range, ...]:
        """For each node of the normal, then of the reduction cell, the places of its incoming edges
        among the positions of a space."""
        places = []
        first = 1
        for _ in CELL_TYPES:
            for node in range(INPUTS, INPUTS + self.nodes):
                places.append(range(first, first + node))
                first += node
        return tuple(places)

    def edge_places(self) -> range:
        """Places of all edges among the positions of a space."""
        return range(1, 1 + len(CELL_TYPES) * len(self.edges))

    def size(self, positions: Sequence[Position]) -> float:
        """log10 of the number of genotypes."""
        total = 0.0
        for edges in self.node_edges():
            ops = sum(not choice.cut for choice in positions[edges[0]].choices)
            total += log10(comb(len(edges), OPEN_EDGES)) + OPEN_EDGES * log10(ops)
        return total

    def sample(self, positions: Sequence[Position], rng: np.random.Generator) -> tuple[int, ...]:
        """A genotype drawn uniformly."""
        point = [_closed(position) for position in positions]
        for edges in self.node_edges():
            for place in rng.choice(edges, OPEN_EDGES, replace=False):
                point[place] = int(rng.choice(_opened(positions[place])))
        return tuple(point)

    def neighbour(
        self, positions: Sequence[Position], point: Sequence[int], rng: np.random.Generator
    ) -> tuple[int, ...]:
        """The genotype with another op on one edge, or with one edge from another node. Half of the
        draws are of either kind, where the node has an edge to spare."""
        edges = self.node_edges()[int(rng.integers(len(self.node_edges())))]
        taken = [place for place in edges if not positions[place].choices[point[place]].cut]
        spare = [place for place in edges if place not in taken]
        changed = list(point)
        place = int(rng.choice(taken))
        if spare and rng.random() < 0.5:
            target = int(rng.choice(spare))
            changed[target], changed[place] = changed[place], _closed(positions[place])
            return tuple(changed)
        others = [index for index in _opened(positions[place]) if index != point[place]]
        if others:
            changed[place] = int(rng.choice(others))
        return tuple(changed)

    def bounds(
        self, costs: Sequence[Sequence[float]], positions: Sequence[Position]
    ) -> tuple[float, float]:
        """Least and largest sum of costs over the genotypes.

        Args:
            costs: of each choice of each position.
        """
        low = high = sum(c[0] for p, c in zip(positions, costs, strict=True) if p.kind != "edge")
        for edges in self.node_edges():
            opened = [[costs[place][i] for i in _opened(positions[place])] for place in edges]
            low += min(sum(pair) for pair in combinations([min(each) for each in opened], OPEN_EDGES))
            high += max(sum(pair) for pair in combinations([max(each) for each in opened], OPEN_EDGES))
        return low, high

    def network(self, chosen: Sequence[Choice]) -> Graph:
        """The network of one choice per position, as a single Graph. More or fewer open edges than a
        genotype has are taken, but no node without any.

        Raises:
            SpaceError: no edge leads to a node.
        """
        stem, head = chosen[0].ops[0], chosen[-1].ops[0]
        count = len(self.edges)
        cells = {
            name: dict(zip(self.edges, chosen[1 + n * count : 1 + (n + 1) * count], strict=True))
            for n, name in enumerate(CELL_TYPES)
        }
        for name, edges in cells.items():
            for node in range(INPUTS, INPUTS + self.nodes):
                if all(edges[source, node].cut for source in range(node)):
                    raise SpaceError(
                        f"no edge leads to node {node} of the {name} cell; open {OPEN_EDGES} of them"
                    )
        builder = GraphBuilder(dtype=stem.dtype)
        before = last = append_op(builder, builder.input(stem.shape), stem)
        seen = dict.fromkeys(CELL_TYPES, 0)
        for reduced, inputs in zip(self.reduced, chosen[1 + 2 * count : -1], strict=True):
            name = CELL_TYPES[reduced]
            values = [
                append_op(builder, tensor, op)
                for tensor, op in zip((before, last), inputs.ops, strict=True)
            ]
            for node in range(INPUTS, INPUTS + self.nodes):
                parts = []
                for source in range(node):
                    choice = cells[name][source, node]
                    if choice.cut:
                        continue
                    value = values[source]
                    # A skip has no op, but in a reduction cell it may have one.
                    parts.append(
                        append_op(builder, value, choice.ops[seen[name]]) if choice.ops else value
                    )
                values.append(reduce(builder.add, parts))
            seen[name] += 1
            before, last = last, builder.concat(values[INPUTS:])
        return balanced(builder.build(append_op(builder, last, head)))


def is_genotype(layout: DartsLayout, chosen: Sequence[Choice]) -> bool:
    """Whether two edges of each node are open."""
    return all(
        sum(not chosen[place].cut for place in edges) == OPEN_EDGES for edges in layout.node_edges()
    )


def _closed(position: Position) -> int:
    """The index of the position's `none`; 0 where there is one choice."""
    return next((n for n, choice in enumerate(position.choices) if choice.cut), 0)


def _opened(position: Position) -> list[int]:
    return [n for n, choice in enumerate(position.choices) if not choice.cut]
