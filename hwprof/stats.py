"""Statistics of a measurement: pure functions on arrays, no clock, no files.

Words: a *call* is one timed inference; a *visit* is some milliseconds of calls in one fresh session,
summarised by its 10th percentile (p10); a *process* is a worker process that makes some of the
visits. Noise only adds time, so the estimate is a floor over visits.

Sources: floor over visits and the gap rule are the project's own trials (156 ms of timed work a row
agree to 0.23 % in the median); minimum of tuned batches as the robust estimator: Chen and Revels
2016 (arXiv 1608.04295); processes as samples: Georges et al. 2007, Kalibera and Jones 2013; the
second exit when noise has stopped improving: nvbench's `stdrel` criterion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FLOOR_VISITS = 3
AGREEING_VISITS = 4
INTERVAL_LEVEL = 0.90
CLEAN_CPU_SHARE = 0.97
CLEAN_SENTINEL_RATIO = 1.06

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A floor with its interval, all in ms."""

    latency_ms: float
    low_ms: float
    high_ms: float

    @property
    def relative_half_width(self) -> float:
        return (self.high_ms - self.low_ms) / (2.0 * self.latency_ms)


def visit_p10_ms(calls_ns: ArrayLike, group: int = 1) -> float:
    """10th percentile over the calls of one visit, in ms."""
    return float(np.percentile(np.asarray(calls_ns, dtype=np.float64), 10)) / group / 1e6


def floor_ms(p10_ms: ArrayLike, visits: int = FLOOR_VISITS) -> float:
    """Mean of the lowest visits: near the minimum, yet no single lucky timer reading sets it."""
    values = np.sort(np.asarray(p10_ms, dtype=np.float64))
    if values.size == 0:
        raise ValueError("a floor needs at least one visit")
    return float(values[:visits].mean())


def visit_gap(p10_ms: ArrayLike, visits: int = AGREEING_VISITS) -> float:
    """Relative distance of the lowest and the `visits`-th lowest visit; inf with fewer visits."""
    values = np.sort(np.asarray(p10_ms, dtype=np.float64))
    if values.size < visits:
        return float("inf")
    return float(values[visits - 1] / values[0] - 1.0)


def process_floors_ms(p10_ms: ArrayLike, process: ArrayLike) -> Floats:
    """Each process's own floor: the mean of its two lowest visits, in the order of process ids."""
    values, owner = np.asarray(p10_ms, dtype=np.float64), np.asarray(process)
    return np.array([floor_ms(values[owner == p], 2) for p in np.unique(owner)])


def process_spread(p10_ms: ArrayLike, process: ArrayLike) -> float:
    """Relative distance of the lowest and the highest process floor."""
    floors = process_floors_ms(p10_ms, process)
    return float(floors.max() / floors.min() - 1.0)


def clean_visits(
    cpu_share: Sequence[float | None],
    sentinel_ms: Sequence[float | None],
    process: ArrayLike,
) -> NDArray[np.bool_]:
    """Which visits had the core to themselves and saw the machine at its usual speed.

    A visit is clean when its thread had the CPU for 97 % of the time or more (0 % of idle visits and
    100 % of those with a neighbour on the core fail that) and its sentinel took at most 1.06 times
    the floor of that sentinel in the same process. None means not measured and passes.
    """
    owner = np.asarray(process)
    share = np.array([1.0 if s is None else s for s in cpu_share], dtype=np.float64)
    sentinel = np.array([np.nan if s is None else s for s in sentinel_ms], dtype=np.float64)
    clean = share >= CLEAN_CPU_SHARE
    for p in np.unique(owner):
        mine = (owner == p) & np.isfinite(sentinel)
        if mine.any():
            clean[mine] &= sentinel[mine] <= CLEAN_SENTINEL_RATIO * sentinel[mine].min()
    return clean


def estimate(p10_ms: ArrayLike, process: ArrayLike) -> Estimate:
    """Floor over all visits with its 90 % interval (see `interval_half_width`)."""
    value = floor_ms(p10_ms)
    half = interval_half_width(p10_ms, process)
    return Estimate(value, value * (1.0 - half), value * (1.0 + half))


def interval_half_width(p10_ms: ArrayLike, process: ArrayLike) -> float:
    """Relative half width of the interval that holds another build's value 9 times in 10."""
    values = np.sort(np.asarray(p10_ms, dtype=np.float64))
    return max(0.002, float(values[: AGREEING_VISITS].std() / values[0]))
