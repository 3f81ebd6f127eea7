"""Models: which terms a composition weighs, fitted by least squares and compared by leaving one out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwprof.errors import LutError

Floats = NDArray[np.float64]

FIXED = "fixed"
WHOLE = ("rows", "edges", "behind")
"""Terms whose weight is 1 before anything is fitted."""
PENALTIES = (0.0, *np.geomspace(1e-4, 1.0, 9).tolist())
SIMPLER_WITHIN = 1.05
"""A simpler model is preferred while its error is within this factor of the best one's."""


@dataclass(frozen=True)
class Model:
    """A named model.

    Attributes:
        terms: what it weighs.
        fitted: whether the weights are fitted; else each is 1.
    """

    name: str
    terms: tuple[str, ...]
    meaning: str
    fitted: bool = True

    @property
    def parameters(self) -> int:
        return len(self.terms) if self.fitted else 0


MODELS = {
    model.name: model
    for model in (
        Model("sum", ("rows",), "sum of the rows", fitted=False),
        Model("edges", ("rows", "edges"), "sum of rows and measured edges", fitted=False),
        Model("scale", ("rows",), "the sum times one fitted factor"),
        # The first op's input and the last one's output are the caller's in the network too: where most
        # of what isolation adds is a change of layout, a factor for all rows is wrong for shallow
        # networks. int8 on ONNX Runtime: the fastest network of s3nas 14 % off by the factor, 4 % so.
        Model("affine", ("rows", "once"), "the sum times one fitted factor, and one fitted time"),
        Model("scaled-edges", ("rows", "edges"), "rows and edges, a fitted factor each"),
        Model(
            "terms",
            ("rows", "cuts", "cut_mib", "weight_mib"),
            "rows, borders, bytes at the borders and bytes of weights, a fitted weight each",
        ),
        Model(
            "edges-and-terms",
            ("rows", "edges", "cut_mib", "weight_mib"),
            "rows, edges, bytes at the borders and bytes of weights, a fitted weight each",
        ),
        Model("behind", ("behind",), "the sum of rows behind a neighbour times one fitted factor"),
        Model(
            "behind-and-terms",
            ("behind", "cut_mib", "weight_mib"),
            "rows behind a neighbour, bytes at the borders and bytes of weights, a fitted weight each",
        ),
    )
}


@dataclass(frozen=True)
class Fit:
    """A fitted model.

    Attributes:
        coefficients: of the model's terms.
        residuals: relative error, predicted / measured - 1, of each network predicted without itself.
    """

    model: Model
    coefficients: Mapping[str, float]
    residuals: Floats

    @property
    def error(self) -> float:
        return float(np.abs(self.residuals).mean())

    @property
    def sigma(self) -> float:
        return float(self.residuals.std())


def fit(model: Model, networks: Sequence[Mapping[str, float]], measured_ms: Sequence[float]) -> Fit:
    """Weights that make the networks' relative errors least, drawn towards the plain sum (`rows`,
    `edges` and `behind` 1, the rest 0) by a ridge penalty that leaving one out chooses.

    Args:
        networks: terms of each network.

    Raises:
        LutError: no more networks than weights.
    """
    truth = np.asarray(measured_ms, dtype=np.float64)
    shares = np.array([[n[t] for t in model.terms] for n in networks], dtype=np.float64) / truth[:, None]
    start = np.array([float(term in WHOLE) for term in model.terms])
    if not model.fitted:
        return Fit(model, dict(zip(model.terms, start.tolist(), strict=True)), shares @ start - 1.0)
    if len(networks) <= model.parameters:
        raise LutError(
            f"model {model.name} has {model.parameters} weights to fit and {len(networks)} measured "
            f"networks; measure more: --networks {5 * model.parameters}"
        )
    best: tuple[float, Floats, Floats] | None = None
    for penalty in PENALTIES:
        weights, residuals = _ridge(shares, start, penalty)
        error = float(np.abs(residuals).mean())
        if best is None or error < best[0]:
            best = (error, weights, residuals)
    assert best is not None
    return Fit(model, dict(zip(model.terms, best[1].tolist(), strict=True)), best[2])


def choose(fits: Sequence[Fit]) -> Fit:
    """The simplest of the fits whose error is about the best one's."""
    least = min(each.error for each in fits)
    good = [each for each in fits if each.error <= SIMPLER_WITHIN * least]
    return min(good, key=lambda each: (each.model.parameters, len(each.model.terms), each.error))


def _ridge(shares: Floats, start: Floats, penalty: float) -> tuple[Floats, Floats]:
    """Weights, and each network's relative error when it is left out (by the hat matrix). The first term
    is not penalised; the others are by the size that they have in these networks."""
    size = np.sqrt((shares**2).mean(axis=0))
    size[size == 0.0] = 1.0
    scaled = shares / size
    pull = np.full(len(start), penalty * len(shares))
    pull[0] = 0.0
    normal = scaled.T @ scaled + np.diag(pull)
    inverse = np.linalg.pinv(normal, hermitian=True)
    missing = 1.0 - shares @ start
    weights = inverse @ (scaled.T @ missing)
    leverage = np.einsum("ij,jk,ik->i", scaled, inverse, scaled)
    errors = (scaled @ weights - missing) / np.maximum(1.0 - leverage, 1e-9)
    return start + weights / size, errors
