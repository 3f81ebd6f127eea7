"""Archive: every network that a search has evaluated, and the front of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwprof.search.discrete.hypervolume import front_mask, hypervolume
from hwprof.search.discrete.objectives import Floats, Objectives, Point

# How far beyond the front's worst values the reference point lies, in parts of the front's extent: the
# ends of the front would add nothing at 0.
MARGIN = 0.1


@dataclass(frozen=True)
class Evaluated:
    """A network with its objectives' values, each in its own unit."""

    point: Point
    values: tuple[float, ...]


class Archive:
    """Evaluated networks in the order of their evaluation; none twice."""

    def __init__(self, objectives: Objectives) -> None:
        self.objectives = objectives
        self._entries: dict[Point, Evaluated] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, point: Point) -> bool:
        return point in self._entries

    def add(self, point: Point, values: Sequence[float]) -> None:
        """
        Raises:
            ValueError: the point is there already.
        """
        if point in self._entries:
            raise ValueError(f"network {list(point)} is in the archive already")
        self._entries[point] = Evaluated(point, tuple(values))

    @property
    def entries(self) -> tuple[Evaluated, ...]:
        return tuple(self._entries.values())

    def values_of(self, point: Point) -> tuple[float, ...]:
        """
        Raises:
            KeyError: the point was not evaluated.
        """
        return self._entries[point].values

    @property
    def minimised(self) -> Floats:
        """(networks, objectives), smaller is better."""
        return self.objectives.minimised([entry.values for entry in self.entries])

    def front(self) -> tuple[Evaluated, ...]:
        """What no other network dominates, ordered by the last objective, best first."""
        values = self.minimised
        kept = np.flatnonzero(front_mask(values))
        entries = self.entries
        return tuple(entries[index] for index in kept[np.argsort(values[kept, -1], kind="stable")])

    def reference(self) -> tuple[float, ...]:
        """A reference point (minimised values): the worst of the front in each objective, and a tenth of
        the front's extent beyond it."""
        front = self.objectives.minimised([entry.values for entry in self.front()])
        return reference_of(front)

    def hypervolume(self, reference: Sequence[float] | None = None) -> float:
        """In minimised values, in the product of the objectives' units.

        Args:
            reference: minimised values; None: that of `reference`. Hypervolumes of different searches
                compare only with the same one.
        """
        return hypervolume(self.minimised, self.reference() if reference is None else reference)


def reference_of(front: Floats) -> tuple[float, ...]:
    """The reference point of a front (networks, objectives) of minimised values."""
    best, worst = front.min(0), front.max(0)
    extent = np.where(worst > best, worst - best, np.maximum(np.abs(worst), 1.0))
    return tuple((worst + MARGIN * extent).tolist())
