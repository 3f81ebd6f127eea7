"""The member of the family that a transfer makes: linear in choices and in what a cell leaves out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hwprof.prediction.encoding import Encoding, Floats
from hwprof.prediction.liveness import Liveness
from hwprof.prediction.tensors import Tensors

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Transferred:
    """constant + chosen columns' weights + weights of the liveness, at least `floor`.

    A chain's value on a relaxed architecture is the mean over networks drawn from it, but for the floor;
    in a cell it is close to that (`Liveness.of_relaxed`).

    Attributes:
        weights: (columns,). live_weights: of the liveness; empty where there is none.
        floor: a straight line knows no least latency: half of the least measured value.
    """

    name: ClassVar[str] = "transfer"
    encoding: Encoding
    liveness: Liveness | None
    weights: Floats
    live_weights: Floats
    constant: float
    floor: float

    @property
    def differentiable(self) -> bool:
        return True

    def predict(self, one_hot: Floats) -> Floats:
        total = one_hot @ self.weights + self.constant
        if self.liveness is not None:
            total = total + self.liveness.of_networks(one_hot) @ self.live_weights
        return np.asarray(np.maximum(total, self.floor))

    def expected(self, relaxed: Tensor) -> Tensor:
        own = self._tensors.like(relaxed)
        total: Tensor = relaxed @ own["weights"] + self.constant
        if self.liveness is not None:
            total = total + self.liveness.of_relaxed(relaxed) @ own["live_weights"]
        return total.clamp(min=self.floor)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"weights": self.weights, "live_weights": self.live_weights}

    def facts(self) -> dict[str, Any]:
        cell = None if self.liveness is None else self.liveness.to_dict()
        return {"constant": self.constant, "floor": self.floor, "cell": cell}

    @classmethod
    def load(
        cls, encoding: Encoding, facts: dict[str, Any], arrays: dict[str, NDArray[Any]]
    ) -> Transferred:
        """Raises KeyError, TypeError or ValueError where the parts do not fit."""
        cell = facts["cell"]
        liveness = None if cell is None else Liveness.from_dict(cell, encoding)
        weights, live = (arrays[name].astype(np.float64) for name in ("weights", "live_weights"))
        constant, floor = float(facts["constant"]), float(facts["floor"])
        if weights.shape != (encoding.columns,):
            raise ValueError("weights do not fit the encoding")
        if live.shape != (0 if liveness is None else liveness.columns,):
            raise ValueError("weights do not fit the cell")
        if not (np.isfinite(constant) and np.isfinite(floor) and floor > 0.0):
            raise ValueError("facts of a transferred model")
        return cls(encoding, liveness, weights, live, constant, floor)

    @cached_property
    def _tensors(self) -> Tensors:
        return Tensors(self.arrays())
