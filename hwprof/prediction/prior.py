"""Prior: how far the weights of an encoding's columns are believed to go together.

Weights w of the columns are drawn with covariance S = own I + F F'. With F the counts of ops, choices
of different positions that run the same op have weights that are alike; with F the analytic costs, so
have choices that cost alike. A ridge on one-hot vectors alone is F = 0. What is fitted stays a weight
for each column.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np

from hwprof.prediction.encoding import Encoding, Floats
from hwprof.prediction.knowledge import Knowledge

SHARES = ((1.0, 0.0, 0.0), (0.2, 0.8, 0.0), (0.1, 0.5, 0.4), (0.02, 0.98, 0.0))
"""Of the columns themselves, of the ops that they run, of their analytic costs."""


@dataclass(frozen=True)
class Prior:
    """S, scaled so that a network drawn uniformly has a variance of 1 under it.

    Attributes:
        middle: (columns,), the mean of the networks' vectors.
        own: of S, in the columns' own scale.
        factors: F, (columns, any).
        shares: of `SHARES`, how S was put together.
    """

    middle: Floats
    own: float
    factors: Floats
    shares: tuple[float, float, float]

    def features(self, vectors: Floats) -> Floats:
        """Z with Z Z' = (x - middle) S (x' - middle)."""
        centred = vectors - self.middle
        if not self.factors.size:
            return np.asarray(sqrt(self.own) * centred)
        return np.hstack([sqrt(self.own) * centred, centred @ self.factors])

    def kernel(self, vectors: Floats) -> Floats:
        """(networks, networks)."""
        features = self.features(vectors)
        return np.asarray(features @ features.T)

    def times(self, values: Floats) -> Floats:
        """S @ values, of shape (columns, ...)."""
        found: Floats = self.own * values + self.factors @ (self.factors.T @ values)
        return found

    def describe(self) -> str:
        own, ops, costs = (f"{share:.0%}" for share in self.shares)
        return f"prior {own} of each choice alone, {ops} of shared ops, {costs} of analytic costs"


def priors(knowledge: Knowledge, one_hot: Floats) -> Iterator[Prior]:
    """Those that are worth a try; held-out error tells which holds."""
    encoding = knowledge.encoding
    middle = one_hot.mean(axis=0)
    alone = 1.0 / float(_variance(np.eye(encoding.columns), encoding).sum())
    spread = np.sqrt(_variance(knowledge.costs, encoding))
    counts = _scaled(knowledge.counts, encoding)
    costs = _scaled(knowledge.costs / np.where(spread > 0, spread, 1.0), encoding)
    for own, ops, analytic in SHARES:
        if (ops and counts is None) or (analytic and costs is None):
            continue
        parts = [(ops, counts), (analytic, costs)]
        factors = [sqrt(share) * part for share, part in parts if share and part is not None]
        joined = np.hstack(factors) if factors else np.zeros((encoding.columns, 0))
        yield Prior(middle, own * alone, joined, (own, ops, analytic))


def _scaled(part: Floats, encoding: Encoding) -> Floats | None:
    """Divided so that the part alone gives a network drawn uniformly a variance of 1; None where the
    choices do not differ in it."""
    total = float(_variance(part, encoding).sum())
    return part / sqrt(total) if total > 0 else None


def _variance(part: Floats, encoding: Encoding) -> Floats:
    """(features,): of a network's sum, its choices drawn uniformly."""
    total = np.zeros(part.shape[1])
    for start, place in zip(encoding.starts, encoding.chosen, strict=True):
        total += part[start : start + encoding.widths[place]].var(axis=0)
    return total
