"""Kernel ridge regression of relative errors, its penalty chosen by leaving one network out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwprof.prediction.encoding import Floats, Integers

PENALTIES = np.geomspace(1e-6, 10.0, 22)
SEARCHED = 600
"""Networks that kernel and penalty are chosen on; of more, an even share. The decomposition costs the
cube of it."""


@dataclass(frozen=True)
class Ridge:
    """f = constant + kernel @ dual, in units of `scale`; of its exponential if `log`.

    Attributes:
        error: mean relative error of each network left out.
        penalty: what gave it.
    """

    dual: Floats
    constant: float
    scale: float
    log: bool
    penalty: float
    error: float


def solve(kernel: Floats, values: Floats, log: bool) -> Ridge:
    """The weights that make the sum of squared relative errors (of differences of logarithms if `log`)
    plus penalty x dual' kernel dual least, for the best of `PENALTIES`.

    Args:
        kernel: (networks, networks), of a scale of 1.
        values: (networks,), above 0.
    """
    parts = _Parts.of(kernel, values, log)
    spread, vectors = np.linalg.eigh(parts.free)
    spread = np.maximum(spread, 0.0)
    shares = vectors.T @ parts.aim
    best: tuple[float, float, Floats] | None = None
    for penalty in PENALTIES:
        dual = vectors @ (shares / (spread + penalty))
        leverage = parts.direction**2 + (vectors**2) @ (spread / (spread + penalty))
        left_out = penalty * dual / np.maximum(1.0 - leverage, 1e-9)
        # exp may overflow where a penalty is far too small: such a penalty just loses.
        with np.errstate(over="ignore"):
            error = float(np.abs(np.expm1(-left_out) if log else left_out).mean())
        if best is None or error < best[0]:
            best = (error, float(penalty), dual)
    assert best is not None
    return parts.ridge(best[2], penalty=best[1], error=best[0])


def solve_again(kernel: Floats, values: Floats, chosen: Ridge) -> Ridge:
    """As `solve`, for more networks, with the penalty and target that some of them chose."""
    parts = _Parts.of(kernel, values, chosen.log)
    penalised = parts.free + chosen.penalty * np.eye(len(values))
    dual = np.asarray(np.linalg.solve(penalised, parts.aim), dtype=np.float64)
    return parts.ridge(dual, penalty=chosen.penalty, error=chosen.error)


@dataclass(frozen=True)
class _Parts:
    """The problem in relative errors, its constant projected out.

    Attributes:
        weight: what each network's row is multiplied by.
        direction: of the constant.
        free, aim: kernel and target orthogonal to it.
    """

    weight: Floats
    target: Floats
    scaled: Floats
    direction: Floats
    free: Floats
    aim: Floats
    scale: float
    log: bool

    @classmethod
    def of(cls, kernel: Floats, values: Floats, log: bool) -> _Parts:
        scale = float(np.exp(np.log(values).mean()))
        weight = np.ones(len(values)) if log else scale / values
        target = np.log(values / scale) if log else np.ones(len(values))
        scaled = kernel * np.outer(weight, weight)
        direction = weight / np.linalg.norm(weight)
        free, aim = _without(direction, scaled), _without(direction, target)
        return cls(weight, target, scaled, direction, free, aim, scale, log)

    def ridge(self, dual: Floats, *, penalty: float, error: float) -> Ridge:
        dual = np.asarray(dual - self.direction * float(self.direction @ dual))
        missing = self.target - self.scaled @ dual
        constant = float(self.weight @ missing / (self.weight @ self.weight))
        return Ridge(self.weight * dual, constant, self.scale, self.log, penalty, error)


def sample(count: int) -> Integers:
    """Up to `SEARCHED` of so many networks, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, SEARCHED)).astype(np.int64))


def _without(direction: Floats, values: Floats) -> Floats:
    """The part that is orthogonal to a direction; of a matrix on both sides."""
    left = values - np.multiply.outer(direction, direction @ values)
    if values.ndim == 1:
        return np.asarray(left)
    return np.asarray(left - np.multiply.outer(left @ direction, direction))
