"""How the machine moved while a build ran: its visits and sentinels against the clock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from hwprof.lut import Lut
from hwprof.lut.diff.timeline import Series, Timeline, timelines
from hwprof.lut.diff.visited import visited
from hwprof.report.chart import MOST_POINTS, Absent, Chart, DataTable, axis, named, tips, view
from hwprof.report.text import counted, percent, signed_percent, visible

if TYPE_CHECKING:
    import pandas as pd

NAME, TITLE = "drift", "Drift over the build"
LATEST_S = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
LEAST_RANGE, MOST_RANGE = 0.01, 10.0
VISITS = "a visit"


def drift(table: Lut) -> Chart | Absent:
    """The build with the most visits: each visit against its own row's latency, and windows of all rows
    and of the sentinels (`hwprof.lut.diff.timeline`).

    Raises:
        LutError: the visits file is damaged or belongs to another table.
    """
    visits = _sound(visited(table))
    if visits.empty:
        return Absent(
            NAME, TITLE, "the table came without visits, which alone tell the time of a number"
        )
    builds = timelines(visits)
    if not builds:
        return Absent(NAME, TITLE, "no visit had the CPU to itself")
    shown = max(builds, key=lambda build: build.quiet)
    own = visits[visits["build_id"] == shown.build_id]
    windows = [
        point for name, series in _series(shown) for point in _windows(name, series, shown.window_s)
    ]
    points = _points(own, shown)
    low, high = _range([*points, *windows])
    caption = (
        f"Build {visible(shown.build_id)}, {shown.minutes:.1f} minutes from "
        f"{shown.started_at:%Y-%m-%d %H:%M} UTC: {shown.quiet:,} of {counted(shown.visits, 'visit')} "
        f"had the CPU to themselves. Lines are medians of {shown.window_s:.0f} s"
    )
    if len(points) < len(own):
        caption += f"; {len(points):,} visits are drawn"
    outside = sum(not low <= point["deviation"] <= high for point in points)
    if outside:
        caption += f"; {outside:,} of them lie outside the picture"
    if len(builds) > 1:
        caption += f"; of {len(builds)} builds the one with the most visits"
    x = axis("minutes", "minutes since the build's first visit")
    y = axis("deviation", "deviation from the middle", axis={"format": "+.1%"})
    y["scale"] = {"domain": [low, high]}
    shown_as = named("series", "", scale={"domain": list(dict.fromkeys(w["series"] for w in windows))})
    tip = tips(op="op", series="series", at="minute", off="deviation")
    layers = [
        {
            "transform": [{"filter": f"datum.series === '{VISITS}'"}],
            "mark": {"type": "point", "style": "band", "size": 12, "clip": True},
            "encoding": {"x": x, "y": y, "tooltip": tip},
        },
        {
            "transform": [{"filter": f"datum.series !== '{VISITS}'"}],
            "mark": {"type": "line", "point": True, "clip": True},
            "encoding": {"x": x, "y": y, "color": shown_as, "shape": shown_as, "tooltip": tip},
        },
    ]
    about = f"Deviation from the middle against time. {caption}."
    spec = view([*points, *windows], layers, height=300, about=about)
    return Chart(NAME, TITLE, caption, spec, _data(builds))


def _sound(visits: pd.DataFrame) -> pd.DataFrame:
    """Without visits that took no time or were made at no time, which only a broken file has."""
    times = visits[["p10_ms", "latency_ms"]].astype(float)
    sound = ((times > 0) & np.isfinite(times)).all(axis=1)
    return visits[sound & visits["started_at"].astype(float).between(0, LATEST_S)]


def _series(build: Timeline) -> list[tuple[str, Series]]:
    named_series = (("all rows", build.rows), ("dense sentinel", build.dense),
                    ("memory sentinel", build.memory))  # fmt: skip
    return [(name, series) for name, series in named_series if series is not None]


def _windows(name: str, series: Series, window_s: float) -> list[dict[str, Any]]:
    return [
        _value(name, "", (place + 0.5) * window_s / 60, deviation)
        for place, deviation in enumerate(series.windows)
        if deviation is not None and isfinite(deviation)
    ]


def _points(visits: pd.DataFrame, build: Timeline) -> list[dict[str, Any]]:
    """A sample of the visits, each against the median visit of its row."""
    middle = visits.groupby("row")["p10_ms"].transform("median")
    told = visits.assign(
        deviation=visits["p10_ms"] / middle - 1,
        minutes=(visits["started_at"] - build.started_at.timestamp()) / 60,
    )
    told = told[np.isfinite(told["deviation"])]
    if len(told) > MOST_POINTS:
        told = told.sample(MOST_POINTS, random_state=0)
    return [
        _value(VISITS, row["op_id"], row["minutes"], row["deviation"])
        for row in told[["op_id", "minutes", "deviation"]].to_dict("records")
    ]


def _value(series: str, op_id: str, minutes: float, deviation: float) -> dict[str, Any]:
    return {
        "series": series,
        "op_id": op_id,
        "minutes": round(minutes, 3),
        "deviation": round(deviation, 6),
        "at": f"{minutes:.1f}",
        "off": signed_percent(deviation),
    }


def _range(points: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Without the outermost visits, which would press everything else into a line."""
    values = np.array([point["deviation"] for point in points])
    low, high = np.percentile(np.clip(values, -1, MOST_RANGE), [5, 95])
    return float(min(low, -LEAST_RANGE)), float(max(high, LEAST_RANGE))


def _data(builds: Sequence[Timeline]) -> DataTable:
    rows = []
    for build in builds:
        for name, series in _series(build):
            slope = "–"
            if series.slope is not None:
                slope = (
                    f"{signed_percent(series.slope)} ({signed_percent(series.slope_low)} to "
                    f"{signed_percent(series.slope_high)})"
                )
            rows.append(
                (
                    visible(build.build_id),
                    f"{build.started_at:%Y-%m-%d %H:%M}",
                    f"{build.minutes:.1f}",
                    name,
                    slope,
                    percent(series.spread),
                    percent(series.explains, 0),
                    "–" if series.speeds is None else percent(series.speeds.gap),
                )
            )
    headings = (
        "build", "from, UTC", "minutes", "what", "change in 10 minutes", "lowest to highest window",
        "explains of the rows' drift", "two speeds apart by",
    )  # fmt: skip
    return DataTable(headings, tuple(rows))
