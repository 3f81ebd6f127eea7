"""Values on a coarse grid: rounded in writing, or read off a coarse clock."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hwprof.lut.lint.finding import Finding
from hwprof.lut.lint.view import Flags, Numbers, View, listed

UNITS_MS = (10.0, 1.0, 0.1, 0.01, 1e-3, 1e-4)
FEWEST_ROWS = 10
SHARE = 0.3
COARSE = 0.005
FEW_DISTINCT = 0.5


def rounding(view: View) -> Iterator[Finding]:
    """Many rows that are multiples of a unit which, halved, is 0.5 % of their value or more; and rows
    that share few different values."""
    for (environment, _), rows in view.groups(view.timed, "environment_id", "cache"):
        latency, where = view.numbers("latency_ms")[rows], view.where(environment)
        if len(rows) < FEWEST_ROWS:
            continue
        distinct = len(np.unique(latency))
        unit = next((each for each in UNITS_MS if _multiples(latency, each).mean() >= SHARE), None)
        coarse = rows[:0]
        if unit is not None:
            coarse = rows[_multiples(latency, unit) & (unit / 2 >= COARSE * latency)]
        if unit is not None and len(coarse) >= max(FEWEST_ROWS, SHARE * len(rows)):
            share = float(np.median(unit / 2 / view.numbers("latency_ms")[coarse]))
            words = (
                f"{len(coarse)} of {len(rows)} rows{where} are multiples of {unit:g} ms, which moves "
            )
            words += f"them by up to {share:.1%} (median): {view.names(coarse)}"
            yield Finding("warning", "rounding", words, view.ids(coarse))
        elif distinct <= FEW_DISTINCT * len(rows):
            shown = listed([f"{value:.6g}" for value in np.unique(latency)[:3]], distinct)
            words = f"{len(rows)} rows{where} share {distinct} different values, {shown} ms"
            yield Finding("warning", "rounding", words, view.ids(rows))


def _multiples(latency: Numbers, unit: float) -> Flags:
    """Which values are multiples of the unit, but for the error of a binary fraction."""
    count = np.round(latency / unit)
    flags: Flags = (count > 0) & np.isclose(latency, count * unit, rtol=1e-9, atol=0)
    return flags
