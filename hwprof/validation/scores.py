"""How well predictions agree with measurements: errors, shares, rank correlations with intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

RESAMPLES = 2000
WITHIN = (0.01, 0.02, 0.05, 0.10)


@dataclass(frozen=True)
class Errors:
    """Relative errors, predicted / measured - 1, as fractions.

    Attributes:
        within: bound -> share of networks whose error is at most that.
        bias: mean of the signed errors.
    """

    mean: float
    median: float
    within: dict[float, float]
    bias: float
    worst: float


@dataclass(frozen=True)
class Correlation:
    """A rank correlation with its 95 % bootstrap interval; None where all values are equal."""

    value: float | None
    low: float | None
    high: float | None


def relative_errors(predicted_ms: ArrayLike, measured_ms: ArrayLike) -> Floats:
    """Predicted / measured - 1."""
    predicted = np.asarray(predicted_ms, dtype=np.float64)
    errors: Floats = predicted / np.asarray(measured_ms, dtype=np.float64) - 1.0
    return errors


def summarise_errors(errors: Floats) -> Errors:
    """Raises ValueError without any."""
    if not errors.size:
        raise ValueError("no networks")
    size = np.abs(errors)
    return Errors(
        mean=float(size.mean()),
        median=float(np.median(size)),
        within={bound: float((size <= bound).mean()) for bound in WITHIN},
        bias=float(errors.mean()),
        worst=float(size.max()),
    )


def spearman(a: ArrayLike, b: ArrayLike) -> float | None:
    """Pearson correlation of the ranks, ties by their mean rank."""
    x, y = _ranks(np.asarray(a, dtype=np.float64)), _ranks(np.asarray(b, dtype=np.float64))
    if x.size < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def kendall(a: ArrayLike, b: ArrayLike) -> float | None:
    """Kendall's tau-b."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    upper = np.triu_indices(x.size, 1)
    signs_x = np.sign(x[:, None] - x[None, :])[upper]
    signs_y = np.sign(y[:, None] - y[None, :])[upper]
    pairs = np.sqrt(float((signs_x != 0).sum()) * float((signs_y != 0).sum()))
    return float((signs_x * signs_y).sum() / pairs) if pairs else None


def correlation(
    measure: Callable[[Floats, Floats], float | None], a: ArrayLike, b: ArrayLike, seed: int = 0
) -> Correlation:
    """A rank correlation with a percentile bootstrap over networks."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    value = measure(x, y)
    if value is None:
        return Correlation(None, None, None)
    rng = np.random.default_rng(seed)
    picks = (rng.integers(0, x.size, x.size) for _ in range(RESAMPLES))
    drawn = [found for pick in picks if (found := measure(x[pick], y[pick])) is not None]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Correlation(value, float(low), float(high))


def _ranks(values: Floats) -> Floats:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2.0)[place]
    return ranks
