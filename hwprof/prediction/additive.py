"""Additive: a network costs the sum of what its choices add, or the product of their factors.

Both are multilinear in the choices' probabilities, so that the value on a relaxed architecture is
exactly the mean over networks drawn from it: sum_i sum_c p_ic w_ic, or prod_i sum_c p_ic exp(w_ic).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwprof.composition.models import MODELS, choose, fit
from hwprof.composition.terms import TERMS
from hwprof.prediction.encoding import Encoding, Floats
from hwprof.prediction.errors import PredictionError
from hwprof.prediction.knowledge import Knowledge
from hwprof.prediction.prior import Prior, priors
from hwprof.prediction.ridge import Ridge, sample, solve, solve_again
from hwprof.prediction.tensors import Tensors

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Additive:
    """constant + sum of the chosen columns' weights; its exponential if `log`.

    Attributes:
        weights: (columns,).
        name: `additive`, or `composition` where the weights come from rows.
        how: what the weights come from, for people.
    """

    encoding: Encoding
    weights: Floats
    constant: float
    log: bool
    name: str = "additive"
    how: str = ""

    @property
    def differentiable(self) -> bool:
        return True

    def predict(self, one_hot: Floats) -> Floats:
        total: Floats = one_hot @ self.weights + self.constant
        return np.exp(total) if self.log else total

    def expected(self, relaxed: Tensor) -> Tensor:
        own = self._tensors.like(relaxed)
        if not self.log:
            return (relaxed * own["weights"]).sum(-1) + self.constant
        factors = (relaxed * own["weights"].exp()) @ own["positions"]
        total: Tensor = factors.prod(-1) * float(np.exp(self.constant))
        return total

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"weights": self.weights}

    def facts(self) -> dict[str, Any]:
        return {"constant": self.constant, "log": self.log, "how": self.how}

    @classmethod
    def load(
        cls, encoding: Encoding, facts: dict[str, Any], arrays: dict[str, NDArray[Any]], name: str
    ) -> Additive:
        """Raises KeyError, TypeError or ValueError where the parts do not fit."""
        if arrays["weights"].shape != (encoding.columns,):
            raise ValueError("weights do not fit the encoding")
        if not isinstance(facts["log"], bool) or not np.isfinite(float(facts["constant"])):
            raise ValueError("facts of an additive model")
        return cls(
            encoding, arrays["weights"].astype(np.float64), float(facts["constant"]), facts["log"],
            name, str(facts["how"]),
        )  # fmt: skip

    @cached_property
    def _tensors(self) -> Tensors:
        places = np.arange(len(self.encoding.chosen))
        return Tensors(
            {"weights": self.weights, "positions": self.encoding.position_of[:, None] == places}
        )


def fit_additive(one_hot: Floats, values: Floats, knowledge: Knowledge, seed: int = 0) -> Additive:
    """Ridge; sum or product, and what the choices share, by leaving one network out. Nothing is drawn:
    `seed` is that of the family's other members."""
    prior, ridge = best_additive(one_hot, values, knowledge, (False, True))
    if ridge.dual.size != len(values):
        ridge = solve_again(prior.kernel(one_hot), values, ridge)
    weights = prior.times((one_hot - prior.middle).T @ ridge.dual)
    constant = ridge.constant - float(prior.middle @ weights)
    if ridge.log:
        constant += float(np.log(ridge.scale))
    else:
        weights, constant = weights * ridge.scale, constant * ridge.scale
    how = f"{'product' if ridge.log else 'sum'}, {prior.describe()}"
    return Additive(knowledge.encoding, weights, constant, ridge.log, how=how)


def best_additive(
    one_hot: Floats, values: Floats, knowledge: Knowledge, logs: Sequence[bool]
) -> tuple[Prior, Ridge]:
    """Prior and target of the least error, on a share of the networks where there are many."""
    some = sample(len(values))
    found = [
        (prior, solve(prior.kernel(one_hot[some]), values[some], log))
        for prior in priors(knowledge, one_hot)
        for log in logs
    ]
    return min(found, key=lambda pair: pair[1].error)


def fit_composition(one_hot: Floats, values: Floats, knowledge: Knowledge, seed: int = 0) -> Additive:
    """A composition from rows: those of `hwprof.composition.models` that take op rows alone, each
    fitted on the networks, the simplest of the good ones taken.

    Raises:
        PredictionError: the table cannot price every choice.
    """
    rows = knowledge.rows
    if rows is None:
        raise PredictionError(knowledge.without_rows)
    terms = rows.of_networks(one_hot)
    networks = [dict(zip(rows.names, row, strict=True)) for row in terms.tolist()]
    fits = [
        fit(model, networks, values.tolist())
        for model in MODELS.values()
        if set(model.terms) <= set(TERMS) and 2 * model.parameters < len(values)
    ]
    best = choose(fits)
    weights = np.zeros(len(rows.names))
    for name, weight in best.coefficients.items():
        weights[rows.names.index(name)] = weight
    how = f"{best.model.name}: " + ", ".join(f"{n} {w:.4g}" for n, w in best.coefficients.items())
    return Additive(
        knowledge.encoding, rows.columns @ weights, float(rows.constant @ weights), False,
        "composition", how,
    )  # fmt: skip
