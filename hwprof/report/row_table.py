"""The rows of all tables as the page's script reads them: by column, texts of few values coded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hwprof.lut import Lut
from hwprof.report.rows import environment_names, rows_frame
from hwprof.report.surprise import judge

if TYPE_CHECKING:
    import pandas as pd

DIGITS = 6
DICTIONARY_SHARE = 0.5


@dataclass(frozen=True)
class PageColumn:
    """A column of the page's row table.

    Attributes:
        form: how the script writes a value: `text`, `number`, `percent`, `ratio` or `count`.
        in_table: whether it is a column of the table; else it only stands among a row's details.
    """

    name: str
    title: str
    form: str
    in_table: bool = False


COLUMNS = (
    PageColumn("label", "op", "text", True),
    PageColumn("table", "table", "text", True),
    PageColumn("latency_ms", "latency, ms", "number", True),
    PageColumn("interval", "± interval", "percent", True),
    PageColumn("latency_low_ms", "interval from, ms", "number"),
    PageColumn("latency_high_ms", "interval to, ms", "number"),
    PageColumn("p50_ms", "median call, ms", "number", True),
    PageColumn("flops", "FLOPs", "count", True),
    PageColumn("flops_per_s", "FLOP/s", "count", True),
    PageColumn("ratio", "against its kind", "ratio", True),
    PageColumn("among", "judged among", "text"),
    PageColumn("state", "state", "text", True),
    PageColumn("kind", "kind", "text", True),
    PageColumn("granularity", "granularity", "text", True),
    PageColumn("cache", "cache", "text", True),
    PageColumn("environment", "environment", "text", True),
    PageColumn("bytes_moved", "bytes moved", "count"),
    PageColumn("parameters", "parameters", "count"),
    PageColumn("kernel_mix", "kernel mix", "text", True),
    PageColumn("in_channels", "channels in", "number", True),
    PageColumn("out_channels", "channels out", "number", True),
    PageColumn("height", "height, px", "number", True),
    PageColumn("width", "width, px", "number"),
    PageColumn("stride", "stride", "number"),
    PageColumn("expansion", "expansion", "number"),
    PageColumn("activation", "activation", "text"),
    PageColumn("se_channels", "SE channels", "number"),
    PageColumn("residual", "residual", "text"),
    PageColumn("batch", "batch", "number"),
    PageColumn("dtype", "dtype", "text"),
    PageColumn("backend", "backend", "text"),
    PageColumn("target", "target", "text"),
    PageColumn("threads", "threads", "number"),
    PageColumn("visits", "visits", "number"),
    PageColumn("energy_mj", "energy, mJ", "number"),
    PageColumn("peak_memory_bytes", "peak memory, bytes", "count"),
    PageColumn("source", "source", "text"),
    PageColumn("space", "space", "text"),
    PageColumn("started_at", "started, UTC", "text"),
    PageColumn("reason", "why this state", "text"),
    PageColumn("environment_id", "environment id", "text"),
    PageColumn("op_id", "op id", "text"),
)


def judged_rows(table: Lut) -> pd.DataFrame:
    """The rows of a table with `ratio`, `score` and `among` (`hwprof.report.surprise`)."""
    frame = rows_frame(table)
    return frame.join(judge(frame))


def row_table(
    tables: Sequence[Lut], frames: Sequence[pd.DataFrame], names: Sequence[str]
) -> dict[str, Any]:
    """`rows`, `columns` (name, title, form, in_table) and `values` (name -> list, or {values, codes}).

    Args:
        frames: of each table, as of `judged_rows`, or some of its rows.
        names: what each table is called on the page.
    """
    import pandas as pd

    parts = []
    for table, frame, name in zip(tables, frames, names, strict=True):
        told = environment_names(table)
        parts.append(frame.assign(table=name, environment=frame["environment_id"].map(told)))
    rows = pd.concat(parts, ignore_index=True)
    rows["started_at"] = rows["started_at"].dt.strftime("%Y-%m-%d %H:%M:%S")
    rows["residual"] = rows["residual"].map({True: "yes", False: "no"})
    columns = []
    for column in COLUMNS:
        one_value = column.form == "text" and column.name != "label" and rows[column.name].nunique() < 2
        columns.append(
            {"name": column.name, "title": column.title, "form": column.form,
             "in_table": column.in_table and not one_value and bool(rows[column.name].notna().any())}
        )  # fmt: skip
    values = {column.name: _coded(rows[column.name], column.form) for column in COLUMNS}
    return {"rows": len(rows), "columns": columns, "values": values}


def _coded(column: pd.Series[Any], form: str) -> Any:
    if form != "text":
        return [None if value != value else _short(value) for value in column.astype(float).tolist()]
    texts = [value if isinstance(value, str) and value else None for value in column]
    distinct = list(dict.fromkeys(texts))
    if len(distinct) > DICTIONARY_SHARE * len(texts):
        return texts
    places = {text: place for place, text in enumerate(distinct)}
    return {"values": distinct, "codes": [places[text] for text in texts]}


def _short(value: float) -> float | int | None:
    """As few digits as tell it, counts whole, and no infinity, which JSON cannot say."""
    if not np.isfinite(value):
        return None
    return int(value) if value.is_integer() else float(f"{value:.{DIGITS}g}")
