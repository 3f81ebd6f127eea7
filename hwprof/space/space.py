"""Space: what can be chosen, the ops that must be priced, and the network of one point."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import log10
from operator import index
from typing import TYPE_CHECKING

from hwprof.errors import SpaceError
from hwprof.graph import Graph, Shape
from hwprof.ops import OpSpec, lower
from hwprof.space.cell import CellLayout, cell_network
from hwprof.space.choice import Choice, Position
from hwprof.space.darts import DartsLayout

if TYPE_CHECKING:
    import numpy as np

FAMILIES = ("chain", "cell", "darts", "ops")


@dataclass(frozen=True)
class Space:
    """A search space. A point of it is one choice index per position.

    Attributes:
        name: the space's name, as it stands in a table's `space` column.
        summary: one line on what it is and where it comes from.
        family: `chain` (positions run one after the other), `cell` (edges of a repeated DAG), `darts`
            (edges of a normal and of a reduction cell, two open into each node) or `ops` (a plain list
            of ops to measure: it has no networks).
        positions: the decisions; see `CellLayout` and `DartsLayout` for their order in a cell space.
        cell: the layout of a cell space, None for a chain.
    """

    name: str
    summary: str
    family: str
    positions: tuple[Position, ...]
    cell: CellLayout | DartsLayout | None = None

    @property
    def input_shape(self) -> Shape:
        """(N, C, H, W) of a network's input."""
        return self.positions[0].choices[0].ops[0].shape

    @property
    def dtype(self) -> str:
        return self.positions[0].choices[0].ops[0].dtype

    @property
    def size(self) -> float:
        """log10 of the number of networks (of a `cell` space: those without a path included; of a
        `darts` space: of genotypes)."""
        if isinstance(self.cell, DartsLayout):
            return self.cell.size(self.positions)
        return sum(log10(len(position.choices)) for position in self.positions)

    @property
    def blocks(self) -> int:
        """Positions that are blocks or edges: all but stem, reductions and head."""
        return sum(position.kind != "layer" for position in self.positions)

    @property
    def space_hash(self) -> str:
        """sha256 (hex) over family, layout and every position with its labels and op_ids; name and
        summary are left out, batch and dtype are part of the op_ids."""
        op_ids = {op: op.op_id for op in self.ops()}
        content = {
            "family": self.family,
            "cell": asdict(self.cell) if self.cell else None,
            "positions": [
                [p.name, [[c.label, c.cut, [op_ids[op] for op in c.ops]] for c in p.choices]]
                for p in self.positions
            ],
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def ops(self) -> tuple[OpSpec, ...]:
        """Every op that some network of the space runs, once, in order of first appearance."""
        choices = (choice for position in self.positions for choice in position.choices)
        return tuple(dict.fromkeys(op for choice in choices for op in choice.ops))

    def point_ops(self, point: Sequence[int]) -> tuple[OpSpec, ...]:
        """The ops that one point runs, with repetition, in order of the positions.

        Raises:
            SpaceError: the point does not fit the space.
        """
        return tuple(op for choice in self.choices_of(point) for op in choice.ops)

    def network(self, point: Sequence[int]) -> Graph:
        """The whole network of a point as one Graph.

        Raises:
            SpaceError: the point does not fit the space, its cell has no path, or the space is a list of
                ops.
        """
        if self.family == "ops":
            raise SpaceError(f"{self.name} is a list of ops: it has no networks")
        chosen = self.choices_of(point)
        if isinstance(self.cell, DartsLayout):
            return self.cell.network(chosen)
        if self.cell is not None:
            return cell_network(self.cell, chosen)
        return lower([op for choice in chosen for op in choice.ops])

    def choices_of(self, point: Sequence[int]) -> tuple[Choice, ...]:
        """The choice of each position.

        Raises:
            SpaceError: the point has another length than `positions`, or an index out of range.
        """
        if len(point) != len(self.positions):
            raise SpaceError(
                f"a point of {self.name} has {len(self.positions)} choice indices, got {len(point)}"
            )
        chosen = []
        for position, value in zip(self.positions, point, strict=True):
            if not 0 <= index(value) < len(position.choices):
                raise SpaceError(
                    f"{self.name} {position.name}: choice {value} is not one of "
                    f"0 to {len(position.choices) - 1}"
                )
            chosen.append(position.choices[value])
        return tuple(chosen)

    def sample(self, rng: np.random.Generator) -> tuple[int, ...]:
        """A point drawn uniformly, of a `darts` space a genotype. In a `cell` space it may have no path:
        `network` then says so."""
        if isinstance(self.cell, DartsLayout):
            return self.cell.sample(self.positions, rng)
        return tuple(int(rng.integers(len(position.choices))) for position in self.positions)

    def neighbour(self, point: Sequence[int], rng: np.random.Generator) -> tuple[int, ...]:
        """A point that differs in one decision, drawn at random: another choice of one position; of a
        `darts` space a genotype with another op on an edge, or with an edge from another node.

        Raises:
            SpaceError: the point does not fit the space.
        """
        self.choices_of(point)
        if isinstance(self.cell, DartsLayout):
            return self.cell.neighbour(self.positions, point, rng)
        open_places = [n for n, position in enumerate(self.positions) if len(position.choices) > 1]
        changed = list(point)
        if open_places:
            place = int(rng.choice(open_places))
            others = [n for n in range(len(self.positions[place].choices)) if n != point[place]]
            changed[place] = int(rng.choice(others))
        return tuple(changed)

    def with_options(self, batch: int, dtype: str) -> Space:
        """The same space at another batch size and dtype.

        Raises:
            SpaceError: the batch is below 1.
            OpError: the dtype is unknown.
        """
        if batch < 1:
            raise SpaceError(f"batch must be 1 or more, got {batch}")
        ops = {op: replace(op, shape=(batch, *op.shape[1:]), dtype=dtype) for op in self.ops()}
        positions = tuple(
            replace(
                position,
                choices=tuple(replace(c, ops=tuple(ops[op] for op in c.ops)) for c in position.choices),
            )
            for position in self.positions
        )
        return replace(self, positions=positions)
