"""How the machine moved while a build ran: its visits against the clock.

A row's visits span the whole pass, and so do the sentinels timed beside them. What all rows do together
at one time is the machine's doing and not theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from math import exp, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwprof import stats
from hwprof.lut.diff.significance import NORMAL_QUANTILE, Floats
from hwprof.lut.diff.visited import SENTINELS, positions_by

if TYPE_CHECKING:
    import pandas as pd

# The processes take turns round by round, each with its own offset: a window holds a whole turn of them.
LEAST_WINDOW_S = 20.0
MOST_WINDOWS = 24
LEAST_WINDOW_VISITS = 20
LEAST_WINDOWS = 5
POLISH_ROUNDS = 5

# Two speeds: groups of visits far apart for their own width, both of which come up often. The best cut
# of a normal or exponential distribution lies below 3 by this distance (Ashman's D).
SPEEDS_DISTANCE = 4.0
SPEEDS_LEAST_GAP = 0.02
SPEEDS_LEAST_SHARE = 0.1
SPEEDS_LEAST_VISITS = 100
SPEEDS_LARGEST_GAP = 0.5


@dataclass(frozen=True)
class Speeds:
    """A machine with two speeds: the slower one takes `gap` longer (0.1 is 10 %), at `slow_share` of the
    visits. `cut` is the log deviation that lies between them."""

    gap: float
    slow_share: float
    cut: float


@dataclass(frozen=True)
class Series:
    """Something timed again and again over a build.

    Attributes:
        windows: relative deviation from the middle of each window of time, None in one with few visits.
        spread: from the lowest to the highest window, as a fraction; None with fewer than two.
        slope: change over ten minutes, as a fraction, with its interval; None with fewer than five
            windows.
        explains: share of the rows' variance over the windows that this sentinel explains, corrected for
            its one free weight; None for the rows themselves and with fewer than five windows.
        speeds: the machine's two speeds, where this shows them.
    """

    windows: tuple[float | None, ...]
    spread: float | None
    slope: float | None
    slope_low: float | None
    slope_high: float | None
    explains: float | None
    speeds: Speeds | None


@dataclass(frozen=True)
class Timeline:
    """One build over time.

    Attributes:
        visits: all of them. `quiet` had the CPU to themselves; all below is made from those.
        minutes: from the first to the last of the quiet ones.
        rows: each visit against its own row.
        dense, memory: the sentinels; None where they were not timed.
    """

    build_id: str
    started_at: datetime
    minutes: float
    visits: int
    quiet: int
    window_s: float
    rows: Series
    dense: Series | None
    memory: Series | None


def timelines(visits: pd.DataFrame) -> tuple[Timeline, ...]:
    """The timeline of each build, in order of their start.

    Args:
        visits: as `visited` gives them, narrowed to the rows that matter.
    """
    share = visits["cpu_share"].astype(float)
    quiet = visits[share.isna() | (share >= stats.CLEAN_CPU_SHARE)]
    visits_of = visits["build_id"].value_counts()
    made = [
        _timeline(str(build), own, int(visits_of[build])) for build, own in quiet.groupby("build_id")
    ]
    return tuple(sorted(made, key=lambda timeline: timeline.started_at))


def _timeline(build_id: str, visits: pd.DataFrame, all_visits: int) -> Timeline:
    time_s = visits["started_at"].to_numpy(dtype=np.float64)
    start, span_s = float(time_s.min()), float(np.ptp(time_s))
    window_s = max(LEAST_WINDOW_S, span_s / MOST_WINDOWS)
    window = np.minimum((time_s - start) // window_s, MOST_WINDOWS - 1).astype(np.int64)
    logs = np.log(visits["p10_ms"].to_numpy() / visits["latency_ms"].to_numpy())
    speeds = two_speeds(logs)
    fast = logs < (np.inf if speeds is None else speeds.cut)
    levels = _polished(logs[fast], visits["row"].to_numpy()[fast], window[fast], int(window.max()) + 1)
    sentinels = [_sentinel(visits[name], window, window_s, levels) for name in SENTINELS]
    return Timeline(
        build_id=build_id,
        started_at=datetime.fromtimestamp(start, UTC),
        minutes=span_s / 60,
        visits=all_visits,
        quiet=len(visits),
        window_s=window_s,
        rows=_series(levels, window_s, None, speeds),
        dense=sentinels[0],
        memory=sentinels[1],
    )


def _sentinel(
    values: pd.Series[Any], window: NDArray[np.int64], window_s: float, rows: Floats
) -> Series | None:
    """A sentinel's own series, and how much of the rows' it explains."""
    read = values.notna().to_numpy()
    if not read.any():
        return None
    logs = np.log(values.to_numpy(dtype=np.float64)[read])
    logs -= np.median(logs)
    levels = _medians(logs, window[read], rows.size)
    return _series(levels, window_s, _explained(rows, levels), two_speeds(logs))


def _series(levels: Floats, window_s: float, explains: float | None, speeds: Speeds | None) -> Series:
    there = np.flatnonzero(~np.isnan(levels))
    trend = slope(np.asarray((there + 0.5) * window_s / 600.0), levels[there])
    low, middle, high = trend or (None, None, None)
    return Series(
        windows=tuple(None if np.isnan(level) else exp(level) - 1 for level in levels.tolist()),
        spread=exp(float(np.ptp(levels[there]))) - 1 if there.size > 1 else None,
        slope=middle, slope_low=low, slope_high=high, explains=explains, speeds=speeds,
    )  # fmt: skip


def _polished(logs: Floats, row: NDArray[Any], window: NDArray[np.int64], windows: int) -> Floats:
    """Level of each window: Tukey's median polish over rows and windows. A row's own level drops out, so
    that a window with other rows, such as those of a second pass, is not taken for a slower one."""
    levels = np.zeros(windows)
    for _ in range(POLISH_ROUNDS):
        own = _spread_out(logs - levels[window], row)
        levels = np.nan_to_num(_medians(logs - own, window, windows))
    counted = np.bincount(window, minlength=windows) >= LEAST_WINDOW_VISITS
    return np.where(counted, levels - np.median(levels[counted]) if counted.any() else 0.0, np.nan)


def _spread_out(values: Floats, group: NDArray[Any]) -> Floats:
    """The median of its group, for each value."""
    medians = np.empty_like(values)
    for members in positions_by(group):
        medians[members] = np.median(values[members])
    return medians


def _medians(values: Floats, window: NDArray[np.int64], windows: int) -> Floats:
    """Median of each window, NaN with few values."""
    levels = np.full(windows, np.nan)
    for members in positions_by(window):
        if members.size >= LEAST_WINDOW_VISITS:
            levels[window[members[0]]] = np.median(values[members])
    return levels


def slope(time: Floats, values: Floats) -> tuple[float, float, float] | None:
    """(low, middle, high) change of the values with time: median of the slopes of all pairs, and the
    interval that Kendall's rank test allows at `stats.INTERVAL_LEVEL` (Theil 1950, Sen 1968). None with
    fewer than five values."""
    count = values.size
    if count < LEAST_WINDOWS:
        return None
    first, second = np.triu_indices(count, 1)
    slopes = np.sort((values[second] - values[first]) / (time[second] - time[first]))
    steps = NORMAL_QUANTILE * sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = max(0, round((slopes.size - steps) / 2) - 1)
    return float(slopes[low]), float(np.median(slopes)), float(slopes[-1 - low])


def two_speeds(logs: Floats) -> Speeds | None:
    """The two groups that log deviations fall into, if they do: the cut with the least variance within
    (Otsu 1979), taken only if the groups lie far apart for their width."""
    if logs.size < SPEEDS_LEAST_VISITS:
        return None
    values = np.sort(logs[np.abs(logs - np.median(logs)) < SPEEDS_LARGEST_GAP])
    low_count = np.arange(1, values.size)
    least = SPEEDS_LEAST_SHARE * values.size
    wide = (low_count >= least) & (values.size - low_count >= least)
    if not wide.any():
        return None
    sums = np.cumsum(values)[:-1]
    low_mean, high_mean = sums / low_count, (values.sum() - sums) / (values.size - low_count)
    between = low_count * (values.size - low_count) * (high_mean - low_mean) ** 2
    count = int(low_count[np.argmax(np.where(wide, between, -1.0))])
    low, high = values[:count], values[count:]
    gap = float(np.median(high) - np.median(low))
    width = sqrt((float(low.var()) + float(high.var())) / 2)
    if gap < SPEEDS_LEAST_GAP or high.mean() - low.mean() < SPEEDS_DISTANCE * width:
        return None
    return Speeds(exp(gap) - 1, high.size / values.size, float(low[-1] + high[0]) / 2)


def _explained(rows: Floats, sentinel: Floats) -> float | None:
    """Adjusted squared correlation over the windows that both have."""
    both = ~np.isnan(rows) & ~np.isnan(sentinel)
    count = int(both.sum())
    if count < LEAST_WINDOWS or np.ptp(rows[both]) == 0 or np.ptp(sentinel[both]) == 0:
        return None
    square = float(np.corrcoef(rows[both], sentinel[both])[0, 1]) ** 2
    return max(0.0, 1 - (1 - square) * (count - 1) / (count - 2))
