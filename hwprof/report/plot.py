"""A chart of a table as a PNG or SVG file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hwprof.errors import LutError
from hwprof.lut import Lut
from hwprof.report.chart import Absent, Chart, Spec, theme
from hwprof.report.charts import CHARTS, COMPARISON
from hwprof.report.files import check_file, write_whole
from hwprof.report.rows import open_table, sampled
from hwprof.report.script import converter

WIDTH_PX = 720
PNG_SCALE = 2.0
ENDINGS = (".png", ".svg")
NAMES = (*CHARTS, COMPARISON)


def write_plot(
    paths: Sequence[Path], out: Path, chart: str, environments: Sequence[str] = ()
) -> dict[str, Any]:
    """Draw one chart of a table; `change` takes two tables. An existing picture is replaced.

    Returns:
        `path`, `bytes`, `chart`, `caption`.

    Raises:
        LutError: a table cannot be read, has no data for this chart, or `out` cannot be written.
        BackendUnavailable: the extra `report` is not installed.
    """
    check_file(out, ENDINGS, paths)
    if chart not in NAMES:
        raise LutError(f"chart {chart!r} is unknown; choose of {', '.join(NAMES)}")
    if len(paths) != (2 if chart == COMPARISON else 1):
        wanted = "two tables" if chart == COMPARISON else "one table"
        raise LutError(f"chart {chart} takes {wanted}, got {len(paths)}")
    draw = converter()
    tables = [open_table(path, environments if chart != COMPARISON else ()) for path in paths]
    made = _made(tables, chart, environments)
    if isinstance(made, Absent):
        raise LutError(f"{paths[0]} has no data for chart {chart}: {made.reason}")
    spec = json.dumps(static(made))
    if out.suffix == ".svg":
        content = draw.vegalite_to_svg(spec).encode()
    else:
        content = draw.vegalite_to_png(spec, scale=PNG_SCALE)
    write_whole(out, content)
    return {"path": str(out), "bytes": len(content), "chart": chart, "caption": made.caption}


def _made(tables: Sequence[Lut], chart: str, environments: Sequence[str]) -> Chart | Absent:
    if chart != COMPARISON:
        looked_at = sampled(tables[0])
        made = CHARTS[chart](looked_at)
        if isinstance(made, Absent) or looked_at is tables[0]:
            return made
        sample = f"random sample of {len(looked_at):,} of {len(tables[0]):,} rows"
        return replace(made, caption=f"{made.caption}; {sample}")
    from hwprof.lut.diff.tables import diff
    from hwprof.report.changes import change

    first, second = tables
    return change(diff(first, second, environments))


def static(chart: Chart) -> Spec:
    """The whole specification of a picture, as wide as a page's text, with its title and theme."""
    return {
        **chart.spec,
        "title": chart.title,
        "width": WIDTH_PX,
        "padding": 12,
        "config": {**theme(), "background": "white"},
    }
