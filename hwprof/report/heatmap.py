"""Latency over kernel mix, channels and resolution, as a heat map."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from hwprof.lut import Lut
from hwprof.report.chart import Absent, Chart, DataTable, Spec, named, tips, view
from hwprof.report.rows import environment_names, rows_frame
from hwprof.report.text import counted, number

if TYPE_CHECKING:
    import pandas as pd

NAME, TITLE = "heatmap", "Latency by kernel mix, channels and resolution"
ALIKE = ["environment_id", "cache", "dtype", "batch"]
MOST_COLUMNS, MOST_LINES = 40, 60
LINE_PX = 22
MIX = re.compile(r"\d{1,4}:\d{1,7}(,\d{1,4}:\d{1,7})*")
OTHERS = ("activation", "se_channels")


def heatmap(table: Lut) -> Chart | Absent:
    """Ops with a kernel, of the environment, cache state, dtype and batch with the most of them. One
    column is one resolution, channels and stride; one line is one kernel mix, and an activation and
    squeeze-and-excitation where the table has several."""
    frame = rows_frame(table)
    mixed = frame["kernel_mix"].map(lambda mix: isinstance(mix, str) and MIX.fullmatch(mix) is not None)
    frame = frame[
        (frame["granularity"] == "op") & mixed & (frame[["height", "in_channels"]] > 0).all(axis=1)
    ]
    if frame.empty:
        return Absent(NAME, TITLE, "no op has a kernel and a resolution")
    alike = Counter(frame[ALIKE].itertuples(index=False, name=None)).most_common(1)[0][0]
    environment, cache, dtype, batch = alike
    chosen = frame[(frame[ALIKE] == list(alike)).all(axis=1)].copy()
    chosen["line"] = _lines(chosen)
    chosen["column"] = [_column(row) for row in chosen.to_dict("records")]
    wide_first = chosen.sort_values(
        ["height", "in_channels", "out_channels"], ascending=[False, True, True]
    )
    columns = _first(wide_first, "column", MOST_COLUMNS)
    lines = _first(chosen.sort_values(["mix_order", "line"]), "line", MOST_LINES)
    shown = chosen[chosen["column"].isin(columns) & chosen["line"].isin(lines)]
    where = f"{environment_names(table)[environment]}, {cache}, {dtype}, batch {batch}"
    caption = (
        f"{counted(len(shown), 'op')} of {where}. 3×4 is kernel 3 with 4 times the input's channels; a "
        "column is the resolution, the channels in and out, and the stride where it is not 1"
    )
    if left_out := len(frame) - len(shown):
        caption += (
            f"; {counted(left_out, 'op')} of other environments, or beyond the {MOST_COLUMNS} columns "
            f"and {MOST_LINES} lines with the most ops, left out"
        )
    cells = [_cell(key, group) for key, group in shown.groupby(["column", "line"])]
    if any(cell["count"] > 1 for cell in cells):
        caption += "; a cell with several rows shows their median"
    if any(cell["latency_ms"] is None for cell in cells):
        caption += "; × is an op without a number"
    spec = _spec(cells, columns, lines, f"Heat map of latency. {caption}.")
    return Chart(NAME, TITLE, caption, spec, _data(cells, columns, lines))


def _lines(rows: pd.DataFrame) -> list[str]:
    """Each row's line: its mix in channels relative to the input's. Adds the column `mix_order`."""
    told = [name for name in OTHERS if rows[name].nunique() > 1]
    lines, order = [], []
    for row in rows.to_dict("records"):
        parts = [part.split(":") for part in str(row["kernel_mix"]).split(",")]
        mix = [(int(kernel), int(channels) / row["in_channels"]) for kernel, channels in parts]
        words = [" + ".join(f"{kernel}×{number(share, 3)}" for kernel, share in mix)]
        if "activation" in told:
            words.append(str(row["activation"]))
        if "se_channels" in told and row["se_channels"]:
            words.append("SE")
        lines.append(" ".join(words))
        order.append((sum(share for _, share in mix), tuple(mix)))
    ranks = {key: rank for rank, key in enumerate(sorted(set(order)))}
    rows["mix_order"] = [ranks[key] for key in order]
    return lines


def _column(row: dict[Any, Any]) -> str:
    side = f"{row['height']:.0f}"
    if row["width"] != row["height"]:
        side += f"×{row['width']:.0f}"
    stride = f" /{row['stride']:.0f}" if row["stride"] > 1 else ""
    return f"{side} px {row['in_channels']:.0f}→{row['out_channels']:.0f}{stride}"


def _first(rows: pd.DataFrame, name: str, most: int) -> list[str]:
    """The names in the order of the rows; of too many, those with the most rows."""
    kept = set(rows[name].value_counts().index[:most])
    return [value for value in dict.fromkeys(rows[name]) if value in kept]


def _cell(key: Any, group: pd.DataFrame) -> dict[str, Any]:
    latency = group["latency_ms"].dropna()
    value = float(np.median(latency)) if len(latency) else None
    column, line = key
    return {
        "op_id": group["op_id"].iloc[0],
        "column": column,
        "line": line,
        "latency_ms": value,
        "count": len(group),
        "op": group["label"].iloc[0] if len(group) == 1 else counted(len(group), "row"),
        "latency": f"{number(value)} ms"
        if value is not None
        else ", ".join(sorted(set(group["state"]))),
    }


def _spec(cells: list[dict[str, Any]], columns: list[str], lines: list[str], about: str) -> Spec:
    x = named(
        "column", "resolution, channels", sort=columns, axis={"labelAngle": -90, "labelLimit": 200}
    )
    y = named("line", "kernel × channels", sort=lines, axis={"labelLimit": 220})
    where = {"x": x, "y": y, "tooltip": tips(op="op", latency="latency", column="where", line="kernels")}
    colour = {
        "field": "latency_ms",
        "type": "quantitative",
        "title": "latency, ms",
        "scale": {"type": "log", "scheme": "viridis"},
        "legend": {"gradientLength": 160, "format": "~g"},
    }
    numbers = {
        "transform": [{"filter": "datum.latency_ms !== null"}],
        "mark": {"type": "rect", "cursor": "pointer"},
        "encoding": {**where, "color": colour},
    }
    missing = {
        "transform": [{"filter": "datum.latency_ms === null"}],
        "mark": {"type": "text", "text": "×", "style": "cross", "cursor": "pointer"},
        "encoding": where,
    }
    layers = [numbers, missing] if any(cell["latency_ms"] for cell in cells) else [missing]
    return view(cells, layers, height=LINE_PX * len(lines), about=about)


def _data(cells: list[dict[str, Any]], columns: list[str], lines: list[str]) -> DataTable:
    there = {(cell["line"], cell["column"]): cell for cell in cells}
    rows = []
    for line in lines:
        found = [there.get((line, column)) for column in columns]
        rows.append((line, *("" if cell is None else cell["latency"] for cell in found)))
    return DataTable(("kernel × channels", *columns), tuple(rows))
