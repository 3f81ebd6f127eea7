"""Decisions: a space as independent choices, which policies and genetic operators work on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hwprof.errors import SpaceError
from hwprof.search.discrete.objectives import Point
from hwprof.space import Space
from hwprof.space.darts import OPEN_EDGES, DartsLayout

Genome = tuple[int, ...]
"""One choice index for each decision."""


class Decisions(Protocol):
    """How genomes and the points of a space belong together."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Choices of each decision, two or more."""
        ...

    def point(self, genome: Sequence[int]) -> Point | None:
        """The network of a genome; None where it is none, such as a cell without a path."""
        ...

    def active(self, genome: Sequence[int]) -> NDArray[np.bool_]:
        """(decisions,): which of them the network depends on, given the others."""
        ...


class PositionDecisions:
    """A decision for each position that leaves a choice: chain spaces and cells of sums.

    Args:
        exists: whether a point is a network; None asks the space.
    """

    def __init__(self, space: Space, exists: Callable[[Point], bool] | None = None) -> None:
        self._places = [n for n, position in enumerate(space.positions) if len(position.choices) > 1]
        self._fixed = [0] * len(space.positions)
        self.widths = tuple(len(space.positions[place].choices) for place in self._places)
        self._exists = exists or (lambda point: space.family == "chain" or is_network(space, point))

    def point(self, genome: Sequence[int]) -> Point | None:
        point = list(self._fixed)
        for place, choice in zip(self._places, genome, strict=True):
            point[place] = int(choice)
        found = tuple(point)
        return found if self._exists(found) else None

    def active(self, genome: Sequence[int]) -> NDArray[np.bool_]:
        return np.ones(len(self.widths), dtype=bool)


class DartsDecisions:
    """Genotypes of a DARTS space: for each node which pair of edges is open, for each edge which op it
    has if it is. Pairs first, then edges in the order of the space's positions; the op of a closed edge
    does not count."""

    def __init__(self, space: Space, layout: DartsLayout) -> None:
        self._nodes = layout.node_edges()
        self._first = layout.edge_places().start
        self._pairs = [tuple(combinations(edges, OPEN_EDGES)) for edges in self._nodes]
        edges = [space.positions[place].choices for place in layout.edge_places()]
        self._opened = [[n for n, choice in enumerate(row) if not choice.cut] for row in edges]
        self._closed = [
            next((n for n, choice in enumerate(position.choices) if choice.cut), 0)
            for position in space.positions
        ]
        self._choices = len(edges[0])
        # The pair of a node with two edges is no decision.
        self._chosen = [n for n, pairs in enumerate(self._pairs) if len(pairs) > 1]
        self.widths = (
            *(len(self._pairs[node]) for node in self._chosen),
            *(len(row) for row in self._opened),
        )

    def point(self, genome: Sequence[int]) -> Point | None:
        point = list(self._closed)
        for place in self._open(genome):
            edge = place - self._first
            point[place] = self._opened[edge][int(genome[len(self._chosen) + edge])]
        return tuple(point)

    def active(self, genome: Sequence[int]) -> NDArray[np.bool_]:
        found = np.zeros(len(self.widths), dtype=bool)
        found[: len(self._chosen)] = True
        for place in self._open(genome):
            found[len(self._chosen) + place - self._first] = True
        return found

    def offered(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(edges, choices) of the space that a mask (decisions, choices) leaves, which is what
        `CellSupernet.offer` takes; `none` stays."""
        found = np.ones((len(self._opened), self._choices), dtype=bool)
        for edge, opened in enumerate(self._opened):
            found[edge, opened] = mask[len(self._chosen) + edge, : len(opened)]
        return found

    def _open(self, genome: Sequence[int]) -> list[int]:
        picked = dict(zip(self._chosen, genome, strict=False))
        return [
            place for node, pairs in enumerate(self._pairs) for place in pairs[int(picked.get(node, 0))]
        ]


def decisions_of(space: Space) -> Decisions:
    """
    Raises:
        SpaceError: the space is a list of ops, or leaves nothing to choose.
    """
    if space.family == "ops":
        raise SpaceError(f"{space.name} is a list of ops: it has no networks to search")
    layout = space.cell
    made: Decisions = (
        DartsDecisions(space, layout) if isinstance(layout, DartsLayout) else PositionDecisions(space)
    )
    if not made.widths:
        raise SpaceError(f"{space.name} has one network: there is nothing to search")
    return made


def is_network(space: Space, point: Point) -> bool:
    """Whether a path leads through the point's cell."""
    try:
        space.network(point)
    except SpaceError:
        return False
    return True
