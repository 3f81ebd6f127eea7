"""Pareto front and hypervolume. All objectives are minimised."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwprof.search.discrete.objectives import Floats


def front_mask(values: ArrayLike) -> NDArray[np.bool_]:
    """Which of (networks, objectives) no other one dominates: none is as good everywhere and better
    somewhere. Of equal ones the first stays."""
    points = np.asarray(values, dtype=np.float64)
    keep = np.zeros(len(points), dtype=bool)
    # In lexicographic order nothing is dominated by what stands behind it.
    left = np.lexsort(points.T[::-1])
    while len(left):
        keep[left[0]] = True
        left = left[(points[left] < points[left[0]]).any(1)]
    return keep


def hypervolume(values: ArrayLike, reference: ArrayLike) -> float:
    """Volume of what (networks, objectives) dominate within the reference point (objectives,); networks
    that are not better than it everywhere add nothing. Exact, by slices along the last objective (While
    et al. 2006): fast for two or three objectives, exponential in their number.

    Raises:
        ValueError: the reference has another number of objectives.
    """
    points, corner = np.asarray(values, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    points = points.reshape(-1, len(corner))
    points = points[(points < corner).all(1)]
    return _sliced(points[front_mask(points)], corner) if len(points) else 0.0


def _sliced(front: Floats, corner: Floats) -> float:
    if front.shape[1] == 1:
        return float(corner[0] - front.min())
    order = front[np.argsort(front[:, -1], kind="stable")]
    if front.shape[1] == 2:
        reached = np.minimum.accumulate(order[:, 0])
        heights = np.diff(np.append(order[:, 1], corner[1]))
        return float(((corner[0] - reached) * heights).sum())
    volume = 0.0
    ends = np.append(order[1:, -1], corner[-1])
    for count, (start, end) in enumerate(zip(order[:, -1], ends, strict=True), start=1):
        if end > start:
            below = order[:count, :-1]
            volume += (end - start) * _sliced(below[front_mask(below)], corner[:-1])
    return float(volume)
