"""Stacked: several expectations over one space as one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from hwprof.errors import SpaceError
from hwprof.search.expectation import Expectation
from hwprof.search.gates import Gates


class Stacked(Gates):
    """Expectations side by side in a last dimension.

    Args:
        parts: expectations over the same positions and choices.

    Raises:
        SpaceError: no part, or parts of different shapes.
    """

    _costs: Tensor
    _borders: Tensor

    def __init__(self, parts: Sequence[Expectation]) -> None:
        if not parts:
            raise SpaceError("give one expectation or more")
        first = parts[0]
        for other in parts[1:]:
            if (other.name, other.positions, other.widths) != (
                first.name,
                first.positions,
                first.widths,
            ):
                raise SpaceError(
                    f"{other.name} ({other.shape[0]} positions, {sum(other.widths)} choices) and "
                    f"{first.name} ({first.shape[0]}, {sum(first.widths)}) are not the same space"
                )
        super().__init__(first.name, first.positions, first.widths)
        costs = torch.stack([part.latencies for part in parts], -1)
        borders = [part.border for part in parts]
        self.register_buffer("_costs", costs, persistent=False)
        self.register_buffer("_borders", costs.new_tensor(borders), persistent=False)
        self.to(device=costs.device, dtype=costs.dtype)
        self.parts = nn.ModuleList(parts)
        self._additive = all(part.additive for part in parts)

    def forward(self, probabilities: Tensor | Sequence[Tensor]) -> Tensor:
        """Expected costs of shape (..., parts), from probabilities as `Expectation.forward` takes them.

        Raises:
            SpaceError: the shape does not fit the space.
        """
        whole = self.whole(probabilities)
        if self._additive:
            return (whole.unsqueeze(-1) * self._costs).sum((-2, -3)) + self._borders
        return torch.stack([cast(Expectation, part).expected(whole) for part in self.parts], -1)

    def price(self, points: Tensor | Sequence[Sequence[int]]) -> Tensor:
        """Costs of whole networks, of shape (..., parts), from choice indices (..., positions).

        Raises:
            SpaceError: as `Expectation.price`.
        """
        points = self.checked_points(points)
        return torch.stack([cast(Expectation, part).price(points) for part in self.parts], -1)
