"""Two tables against each other: what moved all rows, and which moved by themselves."""

from __future__ import annotations

from typing import Any

from hwprof.lut.diff.tables import Diff, RowDifference
from hwprof.report.chart import MOST_POINTS, Absent, Chart, DataTable, Spec, axis, named, tips, view
from hwprof.report.text import counted, number, percent, signed_percent, visible

NAME, TITLE = "change", "What changed from the first table to the second"
SHOWN = 20
CHANGED, NOISE, UNKNOWN = "changed", "within its noise", "noise unknown"


def change(found: Diff) -> Chart | Absent:
    """Each row's change without the common factor, against its latency in the first table."""
    if not found.rows:
        return Absent(NAME, TITLE, "no row has a usable number in both tables")
    drawn = found.rows[:MOST_POINTS]
    caption = f"{counted(len(found.rows), 'row')} with a usable number in both tables"
    if len(found.factors) == 1:
        caption += f", without the {signed_percent(found.factors[0].ratio - 1)} that they share"
    elif found.factors:
        caption += ", each without the common factor of its builds"
    caption += f"; {len(found.significant):,} of {found.tested:,} changed beyond their own noise"
    if len(drawn) < len(found.rows):
        caption += f"; the {MOST_POINTS:,} that changed most are drawn"
    title = "own change"
    x, y = axis("a_ms", "latency in the first table, ms", log=True), axis("own", title)
    y["axis"], x["axis"] = {"format": "+.1%"}, {"format": "~g", "tickCount": 6}
    shown = named("series", "", scale={"domain": [CHANGED, NOISE, UNKNOWN]})
    layers: list[Spec] = [
        {"data": {"values": [{"own": 0}]}, "mark": {"type": "rule", "style": "guide"},
         "encoding": {"y": axis("own", title)}},
        {"transform": [{"filter": "datum.low !== null"}], "mark": "rule",
         "encoding": {"x": x, "y": axis("low", title), "y2": {"field": "high"}, "color": shown}},
        {"mark": {"type": "point", "cursor": "pointer"},
         "encoding": {"x": x, "y": y, "color": shown, "shape": shown,
                      "tooltip": tips(label="op", told="latency", off="own change")}},
    ]  # fmt: skip
    about = f"Change of each row against its latency. {caption}."
    spec = view([_value(row) for row in drawn], layers, height=340, about=about)
    return Chart(NAME, TITLE, caption, spec, _data(found))


def _value(row: RowDifference) -> dict[str, Any]:
    known = row.own_low is not None and row.own_high is not None
    series = CHANGED if row.significant else NOISE if known else UNKNOWN
    return {
        "op_id": row.op_id,
        "label": visible(row.label),
        "series": series,
        "a_ms": row.a_ms,
        "own": row.own_ratio - 1,
        "low": None if row.own_low is None else row.own_low - 1,
        "high": None if row.own_high is None else row.own_high - 1,
        "told": f"{number(row.a_ms)} to {number(row.b_ms)} ms",
        "off": _own(row),
    }


def _own(row: RowDifference) -> str:
    if row.own_low is None or row.own_high is None:
        return signed_percent(row.own_ratio - 1)
    ends = f"{signed_percent(row.own_low - 1)} to {signed_percent(row.own_high - 1)}"
    return f"{signed_percent(row.own_ratio - 1)} ({ends})"


def _data(found: Diff) -> DataTable:
    rows = tuple(
        (
            visible(row.label),
            number(row.a_ms),
            number(row.b_ms),
            signed_percent(row.ratio - 1),
            _own(row),
            "yes" if row.significant else "no",
        )
        for row in found.rows[:SHOWN]
    )
    headings = ("op, most changed first", "first, ms", "second, ms", "change", "own change",
                "beyond its noise")  # fmt: skip
    return DataTable(headings, rows)


def facts(found: Diff) -> list[tuple[str, str]]:
    """The comparison in lines: (name, what)."""
    lines = [
        (
            "rows in both tables",
            f"{found.matched:,}; {found.only_a:,} only in the first, {found.only_b:,} in the second",
        )
    ]
    for pair in found.environments:
        lines += [
            (f"environment: {visible(name)}", f"{visible(a)} → {visible(b)}")
            for name, a, b in pair.differences
        ] or [("environment", "the same")]
    lines += [
        (
            f"common factor, {visible(factor.build_a)} → {visible(factor.build_b)}",
            f"{signed_percent(factor.ratio - 1)} ({signed_percent(factor.low - 1)} to "
            f"{signed_percent(factor.high - 1)}) shared by {counted(factor.rows, 'row')}",
        )
        for factor in found.factors
    ]
    if found.usable is not None:
        lines.append(
            (
                "difference",
                f"median {percent(found.usable.median)}, 95th percentile {percent(found.usable.p95)}; "
                f"without the common factor {percent(found.usable.own_median)} and "
                f"{percent(found.usable.own_p95)}",
            )
        )
    lines += [
        ("state changed", f"{a} → {b}: {counted(rows, 'row')}")
        for (a, b), rows in found.state_counts.items()
    ]
    return lines
