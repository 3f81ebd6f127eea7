"""Rows that are not what their FLOPs and bytes say, by the other rows of their kind."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

ALIKE = ["environment_id", "cache", "dtype", "batch"]
LEAST_ROWS = 8
"""A kind with fewer rows is judged together with the other small kinds of the same environment."""
HUBER, BISQUARE = 1.345, 4.685
"""In deviations; 95 % efficient for normally distributed errors (Huber 1964, Beaton and Tukey 1974)."""
HUBER_STEPS, BISQUARE_STEPS = 10, 20
LEAST_DEVIATION = 0.01
"""Of a log latency. Rows that follow the line to 1 % are equal as far as any table can tell."""
POOLED = "small kinds"


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Each op row against a line of log latency in log FLOPs and log bytes, fitted robustly to the rows
    of its kind (environment, cache state, dtype and batch equal).

    Args:
        rows: with the columns `ALIKE`, `granularity`, `kind`, `latency_ms` (NaN: not judged), `flops`,
            `bytes_moved`.

    Returns:
        With the index of `rows`: `ratio` to the line, `score` (its log in robust deviations of the
        group) and `among`, what it was held against; NaN and "" where a row was not judged.
    """
    import pandas as pd

    judged = rows[
        (rows["granularity"] == "op")
        & (rows["latency_ms"] > 0)
        & (rows["latency_ms"] < np.inf)
        & (rows["flops"] > 0)
        & (rows["bytes_moved"] > 0)
    ]
    found = pd.DataFrame({"ratio": np.nan, "score": np.nan, "among": ""}, index=rows.index)
    for _, alike in judged.groupby(ALIKE, observed=True):
        sizes = alike["kind"].map(alike["kind"].value_counts())
        groups = alike["kind"].where(sizes >= LEAST_ROWS, POOLED)
        for name, group in alike.groupby(groups):
            if len(group) >= LEAST_ROWS:
                found.loc[group.index, ["ratio", "score"]] = _against_line(group)
                found.loc[group.index, "among"] = _among(name, len(group))
    return found


def _among(name: Hashable, rows: int) -> str:
    return f"{rows:,} rows of {name}"


def _against_line(group: pd.DataFrame) -> Floats:
    latency = np.log(group["latency_ms"].to_numpy(np.float64))
    terms = np.log(group[["flops", "bytes_moved"]].to_numpy(np.float64))
    off = latency - robust_line(terms, latency)
    score = off / max(_deviation(off), LEAST_DEVIATION)
    return np.column_stack([np.exp(off), score])


def robust_line(terms: Floats, values: Floats) -> Floats:
    """Values of the hyperplane through `terms`: iteratively reweighted least squares, Huber's weights
    first and then Tukey's bisquare, which give a row that is far off no say."""
    columns = np.column_stack([np.ones(len(values)), terms - terms.mean(axis=0)])
    line = np.full_like(values, np.median(values))
    weights = np.ones_like(values)
    for step in range(HUBER_STEPS + BISQUARE_STEPS):
        root = np.sqrt(weights)
        slopes = np.linalg.lstsq(columns * root[:, None], values * root, rcond=None)[0]
        line = columns @ slopes
        off = np.abs(values - line)
        scaled = off / max(_deviation(values - line), 1e-12)
        if step < HUBER_STEPS:
            weights = np.minimum(1.0, HUBER / np.maximum(scaled, 1e-12))
        else:
            weights = np.where(scaled < BISQUARE, (1 - (scaled / BISQUARE) ** 2) ** 2, 0.0)
    return line


def _deviation(off: Floats) -> float:
    """Median absolute deviation, scaled to a normal distribution's standard deviation."""
    return 1.4826 * float(np.median(np.abs(off - np.median(off))))
