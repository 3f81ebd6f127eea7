"""Random search: networks drawn uniformly over decisions, none twice."""

from __future__ import annotations

import numpy as np

from hwprof.search.discrete.decisions import Decisions
from hwprof.search.discrete.drawing import Drawing, uniform
from hwprof.search.discrete.objectives import Floats, Point

BATCH = 10


class RandomSearch:
    """See `hwprof.search.discrete.interface.Search`."""

    name = "random"

    def __init__(self, decisions: Decisions, *, seed: int) -> None:
        self._drawing = Drawing(decisions, np.random.default_rng(seed))
        self._uniform = uniform(decisions)

    def ask(self) -> list[Point]:
        drawn = (self._drawing.new(lambda _: self._uniform, 1.0) for _ in range(BATCH))
        return [one[1] for one in drawn if one is not None]

    def tell(self, values: Floats) -> None:
        """Nothing is learned."""
