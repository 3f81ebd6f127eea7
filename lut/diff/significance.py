"""Which differences are more than noise: a common centre, variances that learn from each other, and a
correction for many comparisons. Pure functions on arrays of log ratios.

Sources: moderated variances, Smyth 2004 (limma); a null distribution scaled by the data, Efron 2004;
false discovery rate, Benjamini and Hochberg 1995; normal score of Student's t, Wallace 1959.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, log, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from hwprof import stats

Floats = NDArray[np.float64]

NORMAL_QUANTILE = NormalDist().inv_cdf((1 + stats.INTERVAL_LEVEL) / 2)
MAD_TO_DEVIATION = 1.4826
# The noise of a floor has longer tails than a normal one. With a common variance of any weight 4 to 11 %
# of synthetic pairs of equal builds had a false change, so 0 to 5 % (docs/diff.md).
MOST_WEIGHT = 2.0


@dataclass(frozen=True)
class Centre:
    """A median with its interval at `stats.INTERVAL_LEVEL`."""

    value: float
    low: float
    high: float

    @property
    def deviation(self) -> float:
        """Standard error."""
        return (self.high - self.low) / (2 * NORMAL_QUANTILE)


def centre(values: Floats) -> Centre:
    """Median; its interval is between two order statistics and supposes no distribution."""
    ordered = np.sort(values)
    steps = NORMAL_QUANTILE * sqrt(ordered.size) / 2
    low = max(0, round(ordered.size / 2 - steps) - 1)
    return Centre(float(np.median(ordered)), float(ordered[low]), float(ordered[-1 - low]))


def robust_deviation(values: Floats) -> float:
    """Standard deviation from the median of absolute deviations."""
    return float(MAD_TO_DEVIATION * np.median(np.abs(values - np.median(values))))


def moderated(variance: Floats, freedom: Floats) -> tuple[Floats, Floats]:
    """Variances drawn towards what all rows have in common, and their degrees of freedom.

    A variance from few processes is a poor estimate: among 150 rows the one that came out ten times too
    small makes its row look changed. The rows' variances are taken as draws around a common one, whose
    weight follows from how much more they scatter than their degrees of freedom explain.
    """
    logs = np.log(variance) - _log_bias(freedom)
    beyond = float(np.var(logs, ddof=1) - np.mean([trigamma(f / 2) for f in freedom]))
    weight = np.minimum(np.inf if beyond <= 0 else 2 * _inverse_trigamma(beyond), MOST_WEIGHT * freedom)
    common = np.exp(logs.mean() + _log_bias(weight))
    shared = (weight * common + freedom * variance) / (weight + freedom)
    return shared, np.minimum(weight + freedom, freedom.sum())


def _log_bias(freedom: Floats) -> Floats:
    """How far the mean log of a variance lies from the log of its mean."""
    return np.array([digamma(f / 2) - log(f / 2) for f in freedom])


def normal_scores(deviation: Floats, variance: Floats, freedom: Floats) -> Floats:
    """Student's t of each deviation, as the normal score of the same probability."""
    t = deviation / np.sqrt(variance)
    with np.errstate(invalid="ignore"):
        scores = np.sqrt(freedom * np.log1p(t**2 / freedom)) * (8 * freedom + 1) / (8 * freedom + 3)
    return np.where(np.isinf(freedom), t, np.sign(t) * scores)


def half_widths(score: float, variance: Floats, freedom: Floats) -> Floats:
    """The deviations that have this normal score: the inverse of `normal_scores`."""
    with np.errstate(invalid="ignore"):
        t = np.sqrt(freedom * np.expm1((score * (8 * freedom + 3) / (8 * freedom + 1)) ** 2 / freedom))
    half: Floats = np.where(np.isinf(freedom), score, t) * np.sqrt(variance)
    return half


def adjusted_p(scores: Floats) -> Floats:
    """Two-sided p-values after Benjamini and Hochberg: of the rows at or below p, a share p is false."""
    p = np.array([erfc(abs(score) / sqrt(2)) for score in scores])
    order = np.argsort(p)[::-1]
    rank = np.arange(p.size, 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum.accumulate(np.minimum(1.0, p[order] * p.size / rank))
    return adjusted


def digamma(x: float) -> float:
    """Derivative of log gamma: shifted to 8 and more, then its asymptotic series."""
    below = 0.0
    while x < 8:
        below -= 1 / x
        x += 1
    return below + log(x) - 1 / (2 * x) - 1 / (12 * x**2) + 1 / (120 * x**4) - 1 / (252 * x**6)


def trigamma(x: float) -> float:
    """Derivative of digamma, in the same way."""
    below = 0.0
    while x < 8:
        below += 1 / x**2
        x += 1
    return below + 1 / x + 1 / (2 * x**2) + 1 / (6 * x**3) - 1 / (30 * x**5) + 1 / (42 * x**7)


def _inverse_trigamma(value: float) -> float:
    """By bisection on a logarithmic scale; trigamma falls."""
    low, high = 1e-6, 1e6
    for _ in range(80):
        middle = sqrt(low * high)
        low, high = (middle, high) if trigamma(middle) > value else (low, middle)
    return low
