"""How far each row of a table may move by itself when it is built again, apart from what moves all rows.

The interval in a table's columns cannot tell: it holds the machine's own drift, which two rows of one
build share. The visits can. A build draws new worker processes, and each keeps the memory it was given,
so the floor is computed again with each process left out in turn (delete-a-group jackknife, Kalibera and
Jones 2013 on processes as the level that counts). On synthetic builds its scores have a robust deviation
of 0.8 to 1.0; from the standard error of the lowest visits, which do not know their processes, it is 0.8
to 1.7 (docs/diff.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from hwprof import stats
from hwprof.lut.diff.significance import NORMAL_QUANTILE, Floats
from hwprof.lut.diff.visited import positions_by

if TYPE_CHECKING:
    import pandas as pd

LEAST_PROCESSES = 3
# The lowest visits are those of a few processes, so the variance scatters more than processes - 1
# degrees of freedom make it: on synthetic builds as 0.4 to 0.85 of them do.
FREEDOM_SHARE = 0.6
COLUMN_FREEDOM = 4.0
SMALLEST_VARIANCE = (stats.SMALLEST_HALF_WIDTH / NORMAL_QUANTILE) ** 2


def floor_variance(p10_ms: ArrayLike, process: ArrayLike) -> tuple[float, float]:
    """Variance of the log of the floor over other worker processes, and its degrees of freedom; NaN and
    0 with fewer than three processes."""
    values, owner = np.asarray(p10_ms, dtype=np.float64), np.asarray(process)
    names = np.unique(owner)
    if len(names) < LEAST_PROCESSES:
        return float("nan"), 0.0
    without = np.log([stats.floor_ms(values[owner != name]) for name in names])
    return float(np.var(without) * (len(names) - 1)), FREEDOM_SHARE * (len(names) - 1)


def visit_variances(visits: pd.DataFrame, rows: int) -> tuple[Floats, Floats]:
    """`floor_variance` over the clean visits of each of a table's rows, by position; NaN and 0 where the
    visits do not tell.

    Args:
        visits: as `visited` gives them.
        rows: how many rows the table has.
    """
    variance, freedom = np.full(rows, np.nan), np.zeros(rows)
    clean = visits[visits["clean"].astype(bool)]
    p10_ms, process, row = (clean[name].to_numpy() for name in ("p10_ms", "process", "row"))
    for own in positions_by(row):
        variance[row[own[0]]], freedom[row[own[0]]] = floor_variance(p10_ms[own], process[own])
    return np.maximum(variance, SMALLEST_VARIANCE), freedom


def column_variances(low_ms: Floats, high_ms: Floats, host_drift: float) -> Floats:
    """The same from the interval of the columns, without the part that stands for the host of a virtual
    machine (`stats.VIRTUAL_HOST_DRIFT`, or 0). The drift within the build stays in it, so it is rather
    too wide. The interval is about the distance of two builds: half its variance is one build's."""
    half = np.log(high_ms / low_ms) / 2
    own = np.where(half > host_drift, half**2 - host_drift**2, half**2)
    return np.maximum(own / 2 / NORMAL_QUANTILE**2, SMALLEST_VARIANCE)
