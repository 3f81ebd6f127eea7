"""Scalarisation: one number of several objectives, for each of many weightings."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from hwprof.search.discrete.hypervolume import front_mask
from hwprof.search.discrete.objectives import Floats

# Of the plain weighted sum in the augmented Chebyshev function: it breaks ties between networks that
# are equal in their worst objective.
AUGMENTATION = 0.05


def weightings(objectives: int, count: int) -> Floats:
    """(weightings, objectives), each row summing to 1: the coarsest simplex lattice (Das and Dennis
    1998) of at least `count` rows; two objectives give exactly `count`."""
    if objectives == 1:
        return np.ones((1, 1))
    divisions = 1
    while len(rows := _lattice(objectives, divisions)) < count:
        divisions += 1
    return rows


def _lattice(objectives: int, divisions: int) -> Floats:
    bars = np.array(list(combinations(range(divisions + objectives - 1), objectives - 1)))
    ends = np.full((len(bars), 1), divisions + objectives - 1)
    parts = np.diff(np.hstack([np.full((len(bars), 1), -1), bars, ends]), axis=1) - 1
    return parts.astype(np.float64) / divisions


def neighbours(weights: Floats) -> Floats:
    """(weightings, weightings), each row the mean of a weighting and those next to it on the lattice."""
    distances = np.linalg.norm(weights[:, None] - weights[None], axis=-1)
    if len(weights) == 1:
        return np.ones((1, 1))
    near = (distances <= 1.01 * distances[distances > 0].min()).astype(np.float64)
    found: Floats = near / near.sum(1, keepdims=True)
    return found


def normalised(values: Floats) -> Floats:
    """(networks, objectives) with the best of the front at 0 and the worst of the front at 1: outliers
    behind the front do not stretch the scale."""
    front = values[front_mask(values)]
    best, worst = front.min(0), front.max(0)
    found: Floats = (values - best) / np.where(worst > best, worst - best, 1.0)
    return found


def chebyshev(values: Floats, weights: Floats) -> Floats:
    """(weightings, networks) of normalised values: the augmented Chebyshev function. Unlike a weighted
    sum its minima are all of the front, hollows included (Steuer and Choo 1983)."""
    weighted = weights[:, None, :] * values[None, :, :]
    found: Floats = weighted.max(-1) + AUGMENTATION * weighted.sum(-1)
    return found
