"""Statistics of a measurement: pure functions on arrays, no clock, no files.

Words: a *call* is one timed inference; a *visit* is some milliseconds of calls in one fresh session,
summarised by its 10th percentile (p10); a *process* is a worker process that makes some of the
visits. Noise only adds time, so the estimate is a floor over visits.

The floor is the mean of the lowest quarter of the visits, at least three. A fixed number of lowest
visits sinks as visits are added; a share does not, so rows that stopped early and late compare. In a
trial of four builds of 152 blocks, one of them beside a busy neighbour, the 95th percentile of the
difference was 1.0-1.3 % so, 1.9 % with the three lowest of 36 and up to 4.9 % with the median
(docs/measurement.md).

Sources: floor over visits in shuffled rounds, processes as a level of noise of their own: Georges et
al. 2007, Kalibera and Jones 2013, and the trials before this project began; the minimum of tuned
batches as the robust estimator: Chen and Revels 2016 (arXiv 1608.04295).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp, log

import numpy as np
from numpy.typing import ArrayLike, NDArray

FLOOR_SHARE = 0.25
FLOOR_VISITS = 3
INTERVAL_LEVEL = 0.90
CLEAN_CPU_SHARE = 0.97
CLEAN_SENTINEL_RATIO = 1.06
ERROR_FACTOR = 4.5
SPEED_FACTOR = 0.9
SMALLEST_HALF_WIDTH = 0.001
# A virtual machine's host changes speed between builds, all ops with it: over ten pairs of builds of
# one morning by 0.2 to 3.4 %, the median 1.3 % (benchmarks/results/rebuild*.json).
VIRTUAL_HOST_DRIFT = 0.025

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A floor with its interval, all in ms."""

    latency_ms: float
    low_ms: float
    high_ms: float

    @property
    def relative_half_width(self) -> float:
        return log(self.high_ms / self.low_ms) / 2.0


def visit_quantiles_ms(calls_ms: ArrayLike) -> Floats:
    """10th, 50th and 90th percentile over the calls of one visit; the first is the visit's value."""
    quantiles: Floats = np.percentile(np.asarray(calls_ms, dtype=np.float64), [10, 50, 90])
    return quantiles


def lowest_visits(p10_ms: ArrayLike) -> Floats:
    """The lowest quarter of the visits, at least three of them (or all there are), ascending.

    Raises:
        ValueError: no visits.
    """
    values = np.sort(np.asarray(p10_ms, dtype=np.float64))
    if values.size == 0:
        raise ValueError("a floor needs at least one visit")
    return values[: max(FLOOR_VISITS, ceil(values.size * FLOOR_SHARE))]


def floor_ms(p10_ms: ArrayLike) -> float:
    """Mean of the lowest visits: near the minimum, yet no single lucky timer reading sets it."""
    return float(lowest_visits(p10_ms).mean())


def halves_gap(p10_ms: ArrayLike, rounds: ArrayLike) -> float:
    """Relative distance of the floors over even and odd rounds, both of which span the whole time; inf
    where one of them has fewer than three visits."""
    values, number = np.asarray(p10_ms, dtype=np.float64), np.asarray(rounds)
    even, odd = values[number % 2 == 0], values[number % 2 == 1]
    if min(even.size, odd.size) < FLOOR_VISITS:
        return float("inf")
    return float(abs(np.log(floor_ms(even) / floor_ms(odd))))


def processes_gap(p10_ms: ArrayLike, process: ArrayLike, agreeing: int) -> float:
    """Relative distance of the lowest and the `agreeing`-th lowest process floor; inf with fewer.

    A process counts from three visits on.
    """
    values, owner = np.asarray(p10_ms, dtype=np.float64), np.asarray(process)
    names, visits = np.unique(owner, return_counts=True)
    floors = np.sort([floor_ms(values[owner == p]) for p in names[visits >= FLOOR_VISITS]])
    if len(floors) < agreeing:
        return float("inf")
    return float(floors[agreeing - 1] / floors[0] - 1.0)


def sentinel_floor(sentinel_ms: ArrayLike) -> float:
    """A process's usual fast reading of a sentinel: the 10th percentile over all its visits, so that
    neither one lucky reading nor a row visited in a slow spell sets it."""
    return float(np.percentile(np.asarray(sentinel_ms, dtype=np.float64), 10))


def clean_visits(
    cpu_share: Sequence[float | None],
    sentinel_ms: Sequence[float | None],
    floor_ms: Sequence[float | None],
) -> NDArray[np.bool_]:
    """Which visits had the core to themselves and saw the machine at its usual speed.

    A visit is clean when its thread had the CPU for 97 % of the time or more (0 % of idle visits and
    100 % of those with a neighbour on the core fail that) and its sentinel took at most 1.06 times
    `floor_ms`, its process's `sentinel_floor`. None means not measured and passes.
    """
    share = np.array([1.0 if s is None else s for s in cpu_share], dtype=np.float64)
    sentinel = np.array([np.nan if s is None else s for s in sentinel_ms], dtype=np.float64)
    floor = np.array([np.nan if f is None else f for f in floor_ms], dtype=np.float64)
    slow = sentinel > CLEAN_SENTINEL_RATIO * floor
    clean: NDArray[np.bool_] = (share >= CLEAN_CPU_SHARE) & ~slow
    return clean


def estimate(
    p10_ms: ArrayLike, sentinel_ms: Sequence[float | None] = (), host_drift: float = 0.0
) -> Estimate:
    """Floor over all visits with its 90 % interval: `interval_half_width` of the visits and, in squares,
    `host_drift`: how far the machine's speed may move between builds (see `VIRTUAL_HOST_DRIFT`)."""
    value = floor_ms(p10_ms)
    half = float(np.hypot(interval_half_width(p10_ms, sentinel_ms), host_drift))
    return Estimate(value, value * exp(-half), value * exp(half))


def speed_spread(sentinel_ms: Sequence[float | None]) -> float:
    """How much the machine's own speed moved: robust relative deviation (1.48 MAD) of the sentinel.
    0 where there is none."""
    values = np.array([s for s in sentinel_ms if s is not None], dtype=np.float64)
    if values.size == 0:
        return 0.0
    logs = np.log(values)
    return float(1.4826 * np.median(np.abs(logs - np.median(logs))))


def interval_half_width(p10_ms: ArrayLike, sentinel_ms: Sequence[float | None] = ()) -> float:
    """Half width, in logs, of the interval that holds an independent build's value 9 times in 10.

    Two sources add in squares: the standard error of the lowest visits, and the machine's speed,
    which drifts over minutes for all ops alike, so that a row's own visits hardly show it. The
    factors are fitted on four builds of 152 blocks; benchmarks/rebuild.py prints what the interval holds
    on others.
    """
    lowest = lowest_visits(p10_ms)
    error = float(lowest.std(ddof=1) / lowest.mean() / np.sqrt(lowest.size)) if lowest.size > 1 else 0.0
    spread = float(np.hypot(ERROR_FACTOR * error, SPEED_FACTOR * speed_spread(sentinel_ms)))
    return max(SMALLEST_HALF_WIDTH, spread)
