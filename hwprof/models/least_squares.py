"""Non-negative least squares: weights of costs are never below zero."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def non_negative(matrix: Floats, target: Floats) -> Floats:
    """The weights of 0 or more whose product with `matrix` is nearest to `target` (Lawson and Hanson,
    Solving Least Squares Problems, 1974, algorithm 23.10)."""
    columns = matrix.shape[1]
    weights = np.zeros(columns)
    free = np.zeros(columns, dtype=bool)
    # Columns of one size, so that one tolerance serves all.
    size = np.sqrt((matrix**2).sum(axis=0))
    size[size == 0.0] = 1.0
    scaled = matrix / size
    tolerance = 1e-9 * float(np.abs(scaled.T @ target).max(initial=0.0))
    for _ in range(3 * columns):
        gain = scaled.T @ (target - scaled @ weights)
        gain[free] = -np.inf
        best = int(gain.argmax())
        if gain[best] <= tolerance:
            break
        free[best] = True
        while True:
            trial = np.zeros(columns)
            trial[free] = np.linalg.lstsq(scaled[:, free], target, rcond=None)[0]
            if (trial[free] > 0.0).all():
                weights = trial
                break
            falling = free & (trial <= 0.0)
            step = float((weights[falling] / (weights[falling] - trial[falling])).min())
            weights = weights + step * (trial - weights)
            stuck = falling & (weights <= 1e-15)
            free[stuck if stuck.any() else falling] = False
            weights[~free] = 0.0
    found: Floats = weights / size
    return found
