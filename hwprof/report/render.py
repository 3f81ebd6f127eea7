"""The page's template filled in: everything of a table is escaped, and only our own scripts can run."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files
from typing import Any

from hwprof import __version__
from hwprof.report.chart import Absent, Chart, theme
from hwprof.report.script import vega_bundle

Lines = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Figure:
    """A chart's place on the page; `table` is empty where there is only one."""

    key: str
    table: str
    chart: Chart | Absent

    @property
    def drawn(self) -> bool:
        return isinstance(self.chart, Chart)


@dataclass(frozen=True)
class Section:
    """A heading with one figure a table."""

    key: str
    title: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Comparison:
    """Two tables compared, or why they could not be; lines are (what, found)."""

    lines: Lines
    figure: Figure | None
    reason: str


@dataclass(frozen=True)
class Page:
    """What stands on the page. Texts are as they are read; the template escapes them.

    Attributes:
        names: of the tables.
        quality: lines of (what, one text a table).
        environments: names of the columns of `environment_lines`.
        surprises: of each table, its most surprising rows.
        rows: for the script (`hwprof.report.row_table`).
        rows_of_tables, rows_looked_at: in all, and those that charts were made from.
    """

    names: Sequence[str]
    quality: Lines
    environments: Sequence[str]
    environment_lines: Lines
    environments_left_out: int
    comparison: Comparison | None
    sections: Sequence[Section]
    surprises: Sequence[Sequence[dict[str, str]]]
    rows: dict[str, Any]
    rows_of_tables: int
    rows_looked_at: int

    @property
    def figures(self) -> list[Figure]:
        """All places for charts, in their order."""
        compared = self.comparison.figure if self.comparison is not None else None
        return [*([compared] if compared else ()), *(f for s in self.sections for f in s.figures)]


def render(page: Page) -> str:
    """The HTML. Only our own style and script and Vega's run, by their hashes; the page's policy forbids
    every request.

    Raises:
        BackendUnavailable: the extra `report` is not installed.
    """
    vega = vega_bundle()
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    assets = files("hwprof.report") / "assets"
    style, script = ((assets / name).read_text("utf-8") for name in ("page.css", "page.js"))
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((assets / "page.html.jinja").read_text("utf-8"))
    return template.render(
        page=page,
        style=Markup(style),
        script=Markup(script),
        vega=Markup(vega),
        script_hashes=[_hash(vega), _hash(script)],
        style_hash=_hash(style),
        data=Markup(_json(_data(page))),
        made_at=datetime.now(UTC),
        version=__version__,
    )


def _data(page: Page) -> dict[str, Any]:
    """What the script reads."""
    return {
        "rows": page.rows,
        "charts": [
            {"key": figure.key, "spec": figure.chart.spec}
            for figure in page.figures
            if isinstance(figure.chart, Chart)
        ],
        "themes": {"light": theme(), "dark": theme(dark=True)},
    }


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _json(value: Any) -> str:
    """JSON that no HTML can be hidden in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
