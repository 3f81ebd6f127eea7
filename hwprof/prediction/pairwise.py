"""Pairwise: what choices add, and what every two choices of different positions add together.

Ridge on all products of two columns, through the kernel (x S x')^2 of an additive model's prior S, or
on neighbours alone. Products of different positions are multilinear, so the value on a relaxed
architecture is exactly the mean over networks drawn from it: constant + w p + p W p.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise as pairs_of
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwprof.prediction.additive import best_additive
from hwprof.prediction.encoding import Encoding, Floats
from hwprof.prediction.errors import PredictionError
from hwprof.prediction.knowledge import Knowledge
from hwprof.prediction.prior import Prior
from hwprof.prediction.ridge import Ridge, sample, solve, solve_again
from hwprof.prediction.tensors import Tensors

if TYPE_CHECKING:
    from torch import Tensor

MAX_COLUMNS = 2048
"""So many columns have 2 million products, 32 MB."""
STRENGTHS = (0.03, 0.1, 0.3, 1.0)


@dataclass(frozen=True)
class Pairwise:
    """constant + x w + x W x.

    Attributes:
        weights: (columns,).
        products: W, (columns, columns), 0 within a position.
        how: which products, for people.
    """

    encoding: Encoding
    weights: Floats
    products: Floats
    constant: float
    how: str = ""

    @property
    def name(self) -> str:
        return "pairwise"

    @property
    def differentiable(self) -> bool:
        return True

    def predict(self, one_hot: Floats) -> Floats:
        together = np.einsum("nc,nc->n", one_hot @ self.products, one_hot)
        total: Floats = one_hot @ self.weights + together + self.constant
        return total

    def expected(self, relaxed: Tensor) -> Tensor:
        own = self._tensors.like(relaxed)
        slopes = own["weights"] + relaxed @ own["products"]
        return (relaxed * slopes).sum(-1) + self.constant

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"weights": self.weights, "products": self.products}

    def facts(self) -> dict[str, Any]:
        return {"constant": self.constant, "how": self.how}

    @classmethod
    def load(
        cls, encoding: Encoding, facts: dict[str, Any], arrays: dict[str, NDArray[Any]]
    ) -> Pairwise:
        """Raises KeyError, TypeError or ValueError where the parts do not fit."""
        size = encoding.columns
        weights = arrays["weights"].astype(np.float64)
        products = arrays["products"].astype(np.float64)
        if weights.shape != (size,) or products.shape != (size, size):
            raise ValueError("weights do not fit the encoding")
        if products[_same(encoding)].any() or not np.isfinite(float(facts["constant"])):
            raise ValueError("products within a position")
        return cls(encoding, weights, products, float(facts["constant"]), str(facts["how"]))

    @cached_property
    def _tensors(self) -> Tensors:
        return Tensors({"weights": self.weights, "products": self.products})


def fit_pairwise(one_hot: Floats, values: Floats, knowledge: Knowledge, seed: int = 0) -> Pairwise:
    """Which products, and how strong, by leaving one network out. Nothing is drawn.

    Raises:
        PredictionError: the space has more than 2048 columns.
    """
    encoding = knowledge.encoding
    if encoding.columns > MAX_COLUMNS:
        raise PredictionError(f"{encoding.columns} choices are more than {MAX_COLUMNS}")
    if len(encoding.chosen) < 2:
        raise PredictionError("the space has one position: nothing to pair")
    prior, _ = best_additive(one_hot, values, knowledge, (False,))
    some = sample(len(values))
    tried = [
        (every, strength, solve(_kernel(prior, encoding, one_hot[some], every, strength), values[some],
                                log=False))
        for every in ((True, False) if knowledge.chain else (True,))
        for strength in STRENGTHS
    ]  # fmt: skip
    every, strength, ridge = min(tried, key=lambda one: one[2].error)
    if ridge.dual.size != len(values):
        ridge = solve_again(_kernel(prior, encoding, one_hot, every, strength), values, ridge)
    return _expanded(prior, encoding, one_hot, every, strength, ridge)


def _kernel(prior: Prior, encoding: Encoding, one_hot: Floats, every: bool, strength: float) -> Floats:
    alone = prior.kernel(one_hot)
    if every:
        return np.asarray(alone + strength * alone**2)
    together = np.zeros_like(alone)
    matches = [centred @ centred.T for centred in _by_position(prior, encoding, one_hot)]
    for first, second in pairs_of(matches):
        together += first * second
    return np.asarray(alone + strength * together / (len(matches) - 1))


def _expanded(
    prior: Prior, encoding: Encoding, one_hot: Floats, every: bool, strength: float, ridge: Ridge
) -> Pairwise:
    """The kernel's function written out: x is centred at the prior's middle, and a square of a column
    or a product within a position is linear where just one choice of it is taken."""
    centred = one_hot - prior.middle
    products = (centred * ridge.dual[:, None]).T @ centred
    if every:
        products = strength * prior.times(prior.times(products).T)
    else:
        count = len(encoding.chosen)
        places = encoding.position_of
        near = np.abs(places[:, None] - places[None, :]) == 1
        # Each pair of neighbours stands in the matrix twice.
        products = np.where(near, products * strength / (2 * (count - 1)), 0.0)
    weights = prior.times(centred.T @ ridge.dual)
    constant = ridge.constant - float(prior.middle @ weights)
    constant += float(prior.middle @ products @ prior.middle)
    weights = weights - (products + products.T) @ prior.middle
    same = _same(encoding)
    within = np.where(same, products, 0.0)
    weights = weights + within.diagonal()
    products = np.where(same, 0.0, products)
    how = "every two positions" if every else "neighbouring positions"
    return Pairwise(
        encoding, weights * ridge.scale, products * ridge.scale, constant * ridge.scale,
        f"{how}, {prior.describe()}",
    )  # fmt: skip


def _by_position(prior: Prior, encoding: Encoding, one_hot: Floats) -> Iterator[Floats]:
    centred = one_hot - prior.middle
    for start, place in zip(encoding.starts, encoding.chosen, strict=True):
        yield centred[:, start : start + encoding.widths[place]]


def _same(encoding: Encoding) -> NDArray[np.bool_]:
    """(columns, columns): whether two columns are of one position."""
    return np.asarray(encoding.position_of[:, None] == encoding.position_of[None, :])
