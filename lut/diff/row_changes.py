"""What moved all rows of a pair of builds, and what each row did by itself, with its interval and p."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hwprof import stats
from hwprof.lut.diff.matching import EnvironmentPair
from hwprof.lut.diff.own_noise import COLUMN_FREEDOM, column_variances, visit_variances
from hwprof.lut.diff.significance import (
    NORMAL_QUANTILE,
    Centre,
    Floats,
    adjusted_p,
    centre,
    half_widths,
    moderated,
    normal_scores,
    robust_deviation,
)
from hwprof.lut.diff.visited import SENTINELS

if TYPE_CHECKING:
    import pandas as pd

LEAST_ROWS = 8
"""With fewer rows a factor that all share cannot be told from the rows' own changes."""


@dataclass(frozen=True)
class CommonFactor:
    """What the rows of a build of a and one of b share: b's time over a's, with its interval.

    Attributes:
        dense, memory: the same of the two sentinels; None where a build timed none.
        scale: how much wider than their own noise the rows scatter around it, 1 or more. Always 1
            between different environments, whose rows may well differ.
    """

    build_a: str
    build_b: str
    rows: int
    ratio: float
    low: float
    high: float
    dense: float | None
    memory: float | None
    scale: float


@dataclass(frozen=True)
class RowChanges:
    """By position of the row.

    Attributes:
        own: log of b / a without the common factor.
        half_width: of the interval around it; NaN where nothing is known of the row's spread.
        p: after the correction for many comparisons; NaN likewise.
        from_visits: whether its noise was taken from the visits of both tables.
    """

    factors: tuple[CommonFactor, ...]
    own: Floats
    half_width: Floats
    p: Floats
    from_visits: NDArray[np.bool_]


def row_changes(
    rows: pd.DataFrame,
    pairs: Sequence[EnvironmentPair],
    visits: Mapping[str, pd.DataFrame],
    sizes: Mapping[str, int],
) -> RowChanges:
    """Take the rows of each pair of builds apart.

    Args:
        rows: as of `Matched`, all with a number in both tables.
        visits: of table a and of table b, as `visited` gives them.
        sizes: how many rows each table has.
    """
    own = np.log(rows["latency_ms_b"].to_numpy() / rows["latency_ms_a"].to_numpy())
    half_width, score = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    noise = {side: _Noise.of(rows, side, visits[side], sizes[side]) for side in "ab"}
    told = (noise["a"].freedom > 0) & (noise["b"].freedom > 0)
    from_visits = np.zeros(len(rows), dtype=bool)
    factors = []
    for _, group in rows.groupby(["pair", "build_id_a", "build_id_b"]):
        places, pair = group.index.to_numpy(), pairs[group["pair"].iloc[0]]
        if places.size < LEAST_ROWS:
            variance = (noise["a"].whole[places] + noise["b"].whole[places]) / 2
            # The interval knows nothing of the processes: alone it called a row of five changed in up to
            # 47 % of 300 equal pairs of synthetic builds without a host's drift, so in up to 15 %.
            for side in noise.values():
                variance += np.where(told, side.own, 0.0)[places]
            freedom, scale = np.full(places.size, np.inf), 1.0
        else:
            middle = centre(own[places])
            own[places] -= middle.value
            variance, freedom = _variance(noise, pair, places, middle)
            scale = 1.0 if pair.differences else _scale(own[places], variance, freedom)
            from_visits[places] = told[places]
            factors.append(_common_factor(group, middle, scale, visits))
        score[places] = normal_scores(own[places], variance, freedom) / scale
        half_width[places] = scale * half_widths(NORMAL_QUANTILE, variance, freedom)
    p = np.full(len(rows), np.nan)
    known = ~np.isnan(score)
    p[known] = adjusted_p(score[known])
    return RowChanges(tuple(factors), own, half_width, p, from_visits)


@dataclass(frozen=True)
class _Noise:
    """Variances of the log of each row's value in one table: its own from the visits (freedom 0 where
    they do not tell), and `whole`, from the column's interval."""

    own: Floats
    freedom: Floats
    whole: Floats
    low_ms: Floats
    high_ms: Floats

    @classmethod
    def of(cls, rows: pd.DataFrame, side: str, visits: pd.DataFrame, size: int) -> _Noise:
        own, freedom = visit_variances(visits, size)
        place = rows[f"row_{side}"].to_numpy()
        low, high = (rows[f"latency_{end}_ms_{side}"].to_numpy(np.float64) for end in ("low", "high"))
        # An interval that is none tells nothing.
        low = np.where((low > 0) & (low <= high) & (high < np.inf), low, np.nan)
        whole = (np.log(high / low) / 2 / NORMAL_QUANTILE) ** 2
        return cls(own[place], freedom[place], whole, low, high)

    def at(self, places: NDArray[np.int64], virtual: bool) -> tuple[Floats, Floats]:
        """Own variance and freedom of some rows, from the columns where there are no visits."""
        drift = stats.VIRTUAL_HOST_DRIFT if virtual else 0.0
        columns = column_variances(self.low_ms[places], self.high_ms[places], drift)
        told = self.freedom[places] > 0
        return (
            np.where(told, self.own[places], columns),
            np.where(told, self.freedom[places], COLUMN_FREEDOM),
        )


def _variance(
    noise: Mapping[str, _Noise],
    pair: EnvironmentPair,
    places: NDArray[np.int64],
    middle: Centre,
) -> tuple[Floats, Floats]:
    """Of each row's own difference: both builds' noise, moderated, and the factor's own error."""
    (own_a, freedom_a), (own_b, freedom_b) = (
        noise[side].at(places, virtual) for side, virtual in zip("ab", pair.virtual, strict=True)
    )
    variance, freedom = own_a + own_b, freedom_a + freedom_b
    known = ~np.isnan(variance)
    if known.sum() >= LEAST_ROWS:
        variance[known], freedom[known] = moderated(variance[known], freedom[known])
    return variance + middle.deviation**2, freedom


def _scale(own: Floats, variance: Floats, freedom: Floats) -> float:
    """How much wider the scores scatter than they should, by their own bulk: most rows of two builds of
    one environment did not change."""
    scores = normal_scores(own, variance, freedom)
    known = scores[~np.isnan(scores)]
    return max(1.0, robust_deviation(known)) if known.size >= LEAST_ROWS else 1.0


def _common_factor(
    rows: pd.DataFrame, middle: Centre, scale: float, visits: Mapping[str, pd.DataFrame]
) -> CommonFactor:
    dense, memory = (_sentinel_ratio(name, rows, visits) for name in SENTINELS)
    return CommonFactor(
        build_a=rows["build_id_a"].iloc[0],
        build_b=rows["build_id_b"].iloc[0],
        rows=len(rows),
        ratio=exp(middle.value),
        low=exp(middle.low),
        high=exp(middle.high),
        dense=dense,
        memory=memory,
        scale=scale,
    )


def _sentinel_ratio(name: str, rows: pd.DataFrame, visits: Mapping[str, pd.DataFrame]) -> float | None:
    medians = []
    for side in "ab":
        own = visits[side]
        values = own.loc[own["row"].isin(rows[f"row_{side}"]), name].dropna()
        if values.empty:
            return None
        medians.append(float(values.median()))
    return medians[1] / medians[0]
