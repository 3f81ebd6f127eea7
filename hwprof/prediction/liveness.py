"""Liveness: which edges of a cell a runtime may leave out, as columns beside the encoding.

A runtime that runs a cell as it is written pays for every op; one that compiles it drops what the
output does not use, and folds what the input does not reach. Devices differ in which of the two they
are, so both are columns: each choice as it stands, and each choice where its edge leads to the output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hwprof.prediction.encoding import Encoding, Floats, Integers
from hwprof.space import Space
from hwprof.space.cell import CellLayout, Edge

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Liveness:
    """The edges of a cell and where an encoding has them.

    Attributes:
        nodes: of a cell; node 0 is its input, the last one its output.
        edges: (from, to), by target node, then source.
        starts, widths: first column and number of columns of each edge.
        cut: (columns,) 1 where a choice carries nothing.
    """

    nodes: int
    edges: tuple[Edge, ...]
    starts: tuple[int, ...]
    widths: tuple[int, ...]
    cut: tuple[bool, ...]

    @classmethod
    def of(cls, space: Space, encoding: Encoding) -> Liveness | None:
        """None where every network of the space runs all of its ops."""
        if not isinstance(space.cell, CellLayout):
            return None
        of_edges = [n for n, place in enumerate(encoding.chosen) if _is_edge(space, place)]
        if len(of_edges) != len(space.cell.edges):
            return None  # edges of one choice have no columns
        choices = [choice for place in encoding.chosen for choice in space.positions[place].choices]
        return cls(
            space.cell.nodes,
            space.cell.edges,
            tuple(encoding.starts[n] for n in of_edges),
            tuple(encoding.widths[encoding.chosen[n]] for n in of_edges),
            tuple(choice.cut for choice in choices),
        )

    @property
    def columns(self) -> int:
        """Columns that are added: the edges' choices, then input and output of the nodes."""
        return sum(self.widths) + 2 * (self.nodes - 2) + 1

    def of_networks(self, one_hot: Floats) -> Floats:
        """(networks, columns) of 0 and 1."""
        parts = self._parts(one_hot, 1.0 - one_hot @ self._cut_of)
        return np.concatenate(parts, -1)

    def live(self, one_hot: Floats) -> Floats:
        """(networks, columns of the encoding): the choices that a network runs: those of an edge that
        the input does not reach, or that does not lead to the output, are gone."""
        reached, leading = self._nodes(1.0 - one_hot @ self._cut_of)
        made = one_hot.copy()
        for (source, target), start, width in zip(self.edges, self.starts, self.widths, strict=True):
            shares = np.broadcast_to(reached[source] * leading[target], len(one_hot))
            made[:, start : start + width] *= shares[:, None]
        return made

    def of_relaxed(self, relaxed: Tensor) -> Tensor:
        """Probabilities of the same, as if the edges into a node were reached independently: exact for
        what leads to the output of cells of up to four nodes, close to it for the rest."""
        import torch

        cut = torch.as_tensor(self._cut_of, dtype=relaxed.dtype, device=relaxed.device)
        return torch.cat(self._parts(relaxed, 1.0 - relaxed @ cut), -1)

    @cached_property
    def _cut_of(self) -> Floats:
        """(columns, edges): 1 where the column is a cut of the edge."""
        found = np.zeros((len(self.cut), len(self.edges)))
        for edge, (start, width) in enumerate(zip(self.starts, self.widths, strict=True)):
            found[start : start + width, edge] = self.cut[start : start + width]
        return found

    def _nodes(self, opened: Any) -> tuple[dict[int, Any], dict[int, Any]]:
        """Of each node, whether the input reaches it and whether it leads to the output. Of arrays or
        tensors alike; `opened` is (..., edges)."""
        reached: dict[int, Any] = {0: 1.0}
        leading: dict[int, Any] = {self.nodes - 1: 1.0}
        for node in range(1, self.nodes):
            missed: Any = 1.0
            for edge, (source, target) in enumerate(self.edges):
                if target == node:
                    missed = missed * (1.0 - opened[..., edge] * reached[source])
            reached[node] = 1.0 - missed
        for node in range(self.nodes - 2, -1, -1):
            missed = 1.0
            for edge, (source, target) in enumerate(self.edges):
                if source == node:
                    missed = missed * (1.0 - opened[..., edge] * leading[target])
            leading[node] = 1.0 - missed
        return reached, leading

    def _parts(self, vectors: Any, opened: Any) -> list[Any]:
        reached, leading = self._nodes(opened)
        parts = []
        for (_, target), start, width in zip(self.edges, self.starts, self.widths, strict=True):
            shares = leading[target]
            shares = shares if isinstance(shares, float) else shares[..., None]
            parts.append(vectors[..., start : start + width] * shares)
        inner = range(1, self.nodes - 1)
        flags = [reached[node] for node in range(1, self.nodes)] + [leading[node] for node in inner]
        return [*parts, *(flag[..., None] for flag in flags)]

    def to_dict(self) -> dict[str, Any]:
        return {
            "nodes": self.nodes,
            "edges": [list(edge) for edge in self.edges],
            "starts": list(self.starts),
            "widths": list(self.widths),
            "cut": list(self.cut),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], encoding: Encoding) -> Liveness:
        """Raises KeyError, TypeError or ValueError where the parts do not fit."""
        edges: Sequence[Edge] = [(int(source), int(target)) for source, target in data["edges"]]
        made = cls(
            int(data["nodes"]),
            tuple(edges),
            tuple(int(start) for start in data["starts"]),
            tuple(int(width) for width in data["widths"]),
            tuple(bool(cut) for cut in data["cut"]),
        )
        starts = zip(made.starts, made.widths, strict=True)
        if len(made.cut) != encoding.columns or len(made.starts) != len(made.edges):
            raise ValueError("the cell does not fit the encoding")
        if any(start < 0 or width < 1 or start + width > encoding.columns for start, width in starts):
            raise ValueError("the cell's columns lie outside the encoding")
        if made.edges != CellLayout(made.nodes, (), ()).edges:
            raise ValueError("the cell's edges are not those of its nodes")
        return made


def has_network(liveness: Liveness | None, one_hot: Floats) -> Integers:
    """Places of the networks whose output the input reaches; the others are no networks."""
    if liveness is None:
        return np.arange(len(one_hot))
    reached = liveness.of_networks(one_hot)[:, sum(liveness.widths) + liveness.nodes - 2]
    return np.flatnonzero(reached > 0.5)


def _is_edge(space: Space, place: int) -> bool:
    return space.positions[place].kind == "edge"
