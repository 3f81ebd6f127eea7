"""CellNetwork: one found network of a cell space on its own, to be trained and exported."""

from __future__ import annotations

from collections.abc import Sequence

from hwprof.search.supernet import Network
from hwprof.space import Space


class CellNetwork(Network):
    """The network of a point, with the layers of the Graph that is timed.

    Args:
        point: of a space of family `darts` or `cell`.
        dropout: before the classifier.
        seed: of the initial weights.

    Raises:
        SpaceError: the point is no network of the space.
    """

    def __init__(
        self, space: Space, point: Sequence[int], *, dropout: float = 0.0, seed: int = 0
    ) -> None:
        super().__init__(space.point_ops(point), dropout=dropout, seed=seed, graph=space.network(point))
        self.space, self.point = space, tuple(point)
