"""Predicted latency: a fitted predictor where a search takes an expected latency."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hwprof.prediction import Predictor
from hwprof.search.gates import Gates
from hwprof.space import Space


class PredictedLatency(Gates):
    """A predictor with the calls of `ExpectedLatency`: `forward`, `probabilities` and `price`.

    Where the predictor's member is multilinear (composition, additive, pairwise) a relaxed architecture
    has the mean of the networks drawn from it, position by position; the other members are trained
    towards that (docs/predictors.md).

    Args:
        predictor: of a differentiable member.
        space: what is searched, as its networks were measured (batch and dtype included).

    Raises:
        PredictionError: the predictor is of another space, or has no gradient.
    """

    def __init__(self, predictor: Predictor, space: Space) -> None:
        predictor.encoding.require(space)
        predictor.require_gradient()
        super().__init__(space.name, predictor.encoding.positions, predictor.encoding.widths)
        self.space = space
        self.predictor = predictor

    def forward(self, probabilities: Tensor | Sequence[Tensor]) -> Tensor:
        """In the unit of the predictor's metric, of shape (...), from probabilities as
        `ExpectedLatency` takes them.

        Raises:
            SpaceError: the shape does not fit the space.
        """
        return self.predictor.expected(self.whole(probabilities))

    def price(self, points: Tensor | Sequence[Sequence[int]]) -> Tensor:
        """Of whole networks, of shape (...), from choice indices (..., positions).

        Raises:
            SpaceError: a point does not fit the space.
            PredictionError: a point lies too far from the networks that were measured.
        """
        checked = self.checked_points(points)
        flat = checked.reshape(-1, self.shape[0]).cpu().numpy()
        found = torch.as_tensor(self.predictor.predict(flat).value, device=checked.device)
        return found.reshape(checked.shape[:-1])

    def extra_repr(self) -> str:
        return f"space={self.space.name}, member={self.predictor.member.name}"
