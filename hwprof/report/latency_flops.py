"""Latency against FLOPs, each row with its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hwprof.lut import Lut
from hwprof.report.chart import MOST_POINTS, Absent, Chart, DataTable, Spec, axis, named, tips, view
from hwprof.report.rows import environment_names, rows_frame
from hwprof.report.text import counted, number, percent

if TYPE_CHECKING:
    import pandas as pd

NAME, TITLE = "latency-flops", "Latency against FLOPs"


def latency_flops(table: Lut) -> Chart | Absent:
    """All rows with a latency and FLOPs, on logarithmic scales."""
    frame = rows_frame(table)
    drawn = frame[(frame["latency_ms"] > 0) & (frame["flops"] > 0)]
    if drawn.empty:
        return Absent(NAME, TITLE, "no row has both a latency and FLOPs")
    left_out = len(frame) - len(drawn)
    caption = f"{counted(len(drawn), 'row')} on logarithmic scales, each with its interval"
    if left_out:
        caption += f"; {counted(left_out, 'row')} without a latency or FLOPs left out"
    if len(drawn) > MOST_POINTS:
        caption += f"; a random sample of {MOST_POINTS:,} is drawn"
    if (drawn["state"] == "unstable").any():
        caption += "; unstable rows are pale"
    names = environment_names(table)
    sample = drawn.sample(MOST_POINTS, random_state=0) if len(drawn) > MOST_POINTS else drawn
    several = sample["environment_id"].nunique() > 1
    shape = _names_of(sample["series"], "kind")
    colour = _names_of(sample["environment_id"].map(names), "environment") if several else shape
    x = axis("flops", "FLOPs (a multiply-accumulate counts as two)", log=True)
    x["axis"] = {"format": "~s", "tickCount": 6}
    y = axis("latency_ms", "latency, ms", log=True)
    y["axis"] = {"format": "~g", "tickCount": 6}
    opacity = {"condition": {"test": "datum.state === 'unstable'", "value": 0.3}, "value": 0.85}
    points = {
        "mark": {"type": "point", "cursor": "pointer"},
        "encoding": {
            "x": x,
            "y": y,
            "color": colour,
            "shape": shape,
            "opacity": opacity,
            "tooltip": tips(
                label="op", latency="latency", size="FLOPs", rate="FLOP/s", state="state",
                environment="environment",
            ),
        },
    }  # fmt: skip
    intervals = {
        "transform": [{"filter": "datum.low !== null"}],
        "mark": "rule",
        "encoding": {
            "x": x, "y": axis("low", "latency, ms", log=True), "y2": {"field": "high"},
            "color": colour,
        },
    }  # fmt: skip
    about = f"Scatter plot of latency against FLOPs. {caption}."
    values = [_value(row, names) for row in sample.to_dict("records")]
    spec = view(values, [intervals, points], height=380, about=about)
    return Chart(NAME, TITLE, caption, spec, _by_series(drawn))


def _names_of(column: pd.Series[str], title: str) -> Spec:
    """A channel whose names are listed, so that colours and shapes share one legend."""
    field = "series" if title == "kind" else "environment"
    return named(field, title, scale={"domain": sorted(column.unique())})


def _value(row: dict[Any, Any], names: dict[str, str]) -> dict[str, Any]:
    known = row["interval"] == row["interval"]
    spread = f" ± {percent(row['interval'])}" if known else ", spread unknown"
    return {
        "op_id": row["op_id"],
        "label": row["label"],
        "series": row["series"],
        "state": row["state"],
        "environment": names[row["environment_id"]],
        "flops": row["flops"],
        "latency_ms": row["latency_ms"],
        "low": row["latency_low_ms"] if known else None,
        "high": row["latency_high_ms"] if known else None,
        "latency": f"{number(row['latency_ms'])} ms{spread}",
        "size": number(row["flops"]),
        "rate": f"{number(row['flops_per_s'] / 1e9)} G",
    }


def _by_series(drawn: pd.DataFrame) -> DataTable:
    rows = []
    for name, group in drawn.groupby("series"):
        rate = group["flops_per_s"] / 1e9
        rows.append(
            (
                str(name),
                f"{len(group):,}",
                f"{number(group['flops'].min(), 3)} to {number(group['flops'].max(), 3)}",
                f"{number(group['latency_ms'].min())} to {number(group['latency_ms'].max())}",
                number(group["latency_ms"].median()),
                f"{number(rate.min(), 3)} to {number(rate.max(), 3)}",
            )
        )
    headings = ("kind", "rows", "FLOPs", "latency, ms", "median latency, ms", "GFLOP/s")
    return DataTable(headings, tuple(rows))
