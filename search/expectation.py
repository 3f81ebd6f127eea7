"""Expectation: the cost of a distribution over networks and of whole networks, from dense tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hwprof.search.edges import Edges, looked_up
from hwprof.search.gates import Gates
from hwprof.search.spread import Spread

SPREAD_CHUNK = 1 << 15


class Expectation(Gates):
    """Sum over positions and choices of probability x cost, of edges between neighbours and of what
    every network pays; with a spread also so many of its sigmas.

    Linear in each position's probabilities (without edges in all of them), so the gradient by a
    probability is the cost that its choice adds. The buffers follow `.to()` but are not in the
    `state_dict`.

    Args:
        costs: of each choice of each position.
        border: what every network pays.
        dtype: of the buffers; None takes PyTorch's default.

    Attributes:
        latencies: (positions, max choices), the costs, 0 where `mask` is False.
    """

    latencies: Tensor
    _charged: Tensor
    _apart: Tensor

    def __init__(
        self,
        name: str,
        positions: Sequence[str],
        costs: Sequence[Sequence[float]],
        *,
        border: float = 0.0,
        edges: Edges | None = None,
        spread: Spread | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(name, positions, [len(choices) for choices in costs])
        self.border = border
        self._edges = edges
        self._spread = spread
        exact = torch.zeros(self.shape, dtype=torch.float64)
        values = [cost for choices in costs for cost in choices]
        exact[self.mask] = torch.tensor(values, dtype=torch.float64)
        self.register_buffer("latencies", exact, persistent=False)
        # A position of one choice counts fully: it takes the border, which saves an addition.
        charged = exact.clone()
        fixed = self.widths.index(1) if 1 in self.widths else None
        if fixed is not None:
            charged[fixed, 0] += border
        self._border_apart = fixed is None and border != 0.0
        self.register_buffer("_charged", charged, persistent=False)
        self.register_buffer("_apart", torch.tensor(border, dtype=torch.float64), persistent=False)
        self.to(dtype or torch.get_default_dtype())

    @property
    def additive(self) -> bool:
        """Whether it is the sum of the choices' costs, without edges and spread."""
        return self._edges is None and self._spread is None

    def forward(self, probabilities: Tensor | Sequence[Tensor]) -> Tensor:
        """Expected cost of shape (...).

        Args:
            probabilities: of shape (..., positions, max choices), or one tensor (..., choices) per
                position. Values need not sum to one: hard and straight-through gates pass as they
                are. Padding is never read and gets zero gradient.

        Raises:
            SpaceError: the shape does not fit the space.
        """
        return self.expected(self.whole(probabilities))

    def expected(self, whole: Tensor) -> Tensor:
        """As `forward`, from probabilities as `whole` gives them."""
        costs = self._charged if self._edges is None else self._charged + self._edges(whole)
        # A product and a sum, not a matrix product: autocast would round that one to bfloat16.
        total = (whole * costs).sum((-1, -2))
        if self._border_apart:
            total = total + self._apart
        return total if self._spread is None else total + self._spread(whole, total)

    def price(self, points: Tensor | Sequence[Sequence[int]]) -> Tensor:
        """Cost of whole networks, of shape (...).

        Args:
            points: choice indices of shape (..., positions).

        Raises:
            SpaceError: a wrong length, a type other than integer, or an index that is no choice.
        """
        points = self.checked_points(points)
        return self._price(points) if self._spread is None else self._price_with_spread(points)

    def _price(self, points: Tensor) -> Tensor:
        places = torch.arange(self.shape[0], device=points.device)
        total = looked_up(self._charged, places * self.shape[1] + points).sum(-1)
        if self._border_apart:
            total = total + self._apart
        return total if self._edges is None else total + self._edges.price(points)

    def _price_with_spread(self, points: Tensor) -> Tensor:
        flat = points.reshape(-1, self.shape[0])
        parts = [self.latencies.new_empty(0)]
        for start in range(0, len(flat), SPREAD_CHUNK):
            some = nn.functional.one_hot(flat[start : start + SPREAD_CHUNK], self.shape[1])
            parts.append(self.expected(some.to(self.latencies.dtype)))
        return torch.cat(parts).view(points.shape[:-1])
