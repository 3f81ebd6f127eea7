"""Chart: a Vega-Lite specification with the words and numbers that say the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

MOST_POINTS = 2000
"""Marks that a browser still draws at once. A chart of more rows draws a sample and says so."""

Spec = dict[str, Any]

# Each colour has a contrast of 4.5 or more against its background, and kinds differ by shape as well.
_LIGHT = {
    "text": "#1d2530",
    "muted": "#55606e",
    "grid": "#dfe4ea",
    "band": "#8794a5",
    "category": [
        "#0b5fa5", "#a8410b", "#1b7145", "#7b3fbf", "#a3195b", "#6b5b00", "#00697a", "#4a5568",
    ],
}  # fmt: skip
_DARK = {
    "text": "#e8ecf1",
    "muted": "#aab4c0",
    "grid": "#343c47",
    "band": "#8794a5",
    "category": [
        "#6cb6ff", "#ff9e64", "#5fd49a", "#c7a3ff", "#ff8fc0", "#e0d060", "#4fd6e2", "#b6c2d1",
    ],
}  # fmt: skip


@dataclass(frozen=True)
class DataTable:
    """What a chart shows as a table: its text alternative."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        caption: what is drawn, from how many rows, and what was left out.
        spec: Vega-Lite with the data inside, without width and theme.
    """

    name: str
    title: str
    caption: str
    spec: Spec
    data: DataTable


@dataclass(frozen=True)
class Absent:
    """A chart that this table has no data for."""

    name: str
    title: str
    reason: str


def view(
    values: Sequence[Mapping[str, Any]], layers: Sequence[Spec], *, height: int, about: str
) -> Spec:
    """Layers over one set of values, in which NaN and infinities are null. `about` is what a screen
    reader says of the picture."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": about,
        "height": height,
        "data": {"values": [_finite(value) for value in values]},
        "layer": list(layers),
    }


def _finite(value: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(item, float) and not isfinite(item) else item
        for name, item in value.items()
    }


def axis(field: str, title: str, *, log: bool = False, **options: Any) -> Spec:
    """A quantitative channel that need not begin at zero."""
    scale: Spec = {"type": "log", "nice": False, "padding": 10} if log else {"zero": False}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, **options}


def named(field: str, title: str, **options: Any) -> Spec:
    """A channel of names."""
    return {"field": field, "type": "nominal", "title": title, **options}


def tips(**fields: str) -> list[Spec]:
    """What a tooltip shows: field -> heading. Texts are shown as they are, never as a specification."""
    return [{"field": field, "title": title, "type": "nominal"} for field, title in fields.items()]


def theme(dark: bool = False) -> Spec:
    """Colours and fonts of all charts."""
    colours = _DARK if dark else _LIGHT
    text, muted = colours["text"], colours["muted"]
    return {
        "background": "transparent",
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "mark": {"aria": False},
        "axis": {
            "labelColor": muted, "titleColor": text, "gridColor": colours["grid"], "domainColor": muted,
            "tickColor": muted, "labelFontSize": 12, "titleFontSize": 13, "titleFontWeight": "normal",
            "labelOverlap": True, "tickCount": 8,
        },
        "legend": {
            "labelColor": text, "titleColor": text, "labelFontSize": 12, "titleFontSize": 12,
            "titleFontWeight": "normal", "orient": "top", "symbolSize": 70, "columns": 5,
            "labelLimit": 260,
        },
        "title": {"color": text, "fontSize": 15, "anchor": "start"},
        "range": {"category": colours["category"], "ramp": {"scheme": "viridis"}},
        "point": {"size": 38, "filled": True, "opacity": 0.85},
        "rule": {"strokeWidth": 1.2, "opacity": 0.7},
        "style": {
            "guide": {"stroke": muted, "strokeDash": [4, 3], "opacity": 1},
            "band": {"fill": colours["band"], "opacity": 0.22},
            "cross": {"fill": text, "fontSize": 13},
        },
    }  # fmt: skip
