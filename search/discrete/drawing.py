"""Drawing networks that were not asked for yet."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hwprof.search.discrete.decisions import Decisions, Genome
from hwprof.search.discrete.objectives import Floats, Point
from hwprof.search.discrete.policy import draw

# Draws at one exploration before it is doubled, and at full exploration before a search gives up.
TRIES, LAST_TRIES = 10, 2000
FIRST_EXPLORATION = 0.01


class Drawing:
    """All networks that one search has drawn.

    Attributes:
        seen: their points.
    """

    def __init__(self, decisions: Decisions, rng: np.random.Generator) -> None:
        self.decisions, self.rng = decisions, rng
        self.seen: set[Point] = set()

    def new(
        self, distribution: Callable[[float], Floats], exploration: float
    ) -> tuple[Genome, Point] | None:
        """A network that was never drawn, or None where many tries found none.

        Args:
            distribution: (decisions, choices) at an exploration of 0 to 1, 1 being uniform. Where a
                policy has nothing new left, exploration is doubled until there is.
        """
        while True:
            probabilities = distribution(exploration)
            for _ in range(TRIES if exploration < 1.0 else LAST_TRIES):
                genome = draw(probabilities, self.rng)
                point = self.decisions.point(genome)
                if point is not None and point not in self.seen:
                    self.seen.add(point)
                    return genome, point
            if exploration >= 1.0:
                return None
            exploration = min(1.0, 2.0 * max(exploration, FIRST_EXPLORATION))


def uniform(decisions: Decisions) -> Floats:
    """(decisions, choices): all choices of a decision alike."""
    widths = np.array(decisions.widths)
    found: Floats = (np.arange(widths.max()) < widths[:, None]) / widths[:, None]
    return found
