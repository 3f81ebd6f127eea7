"""Networks: predicted from the table's rows against measured, and the errors."""

from __future__ import annotations

from typing import Any

from hwprof.errors import HwprofError
from hwprof.lut import Lut
from hwprof.report.chart import MOST_POINTS, Absent, Chart, DataTable, Spec, axis, named, tips, view
from hwprof.report.predictions import FITTED, HELD_OUT, Predictions, predictions
from hwprof.report.text import counted, number, percent, signed_percent, visible

PREDICTION, ERROR = "prediction", "error"
TITLES = {PREDICTION: "Prediction against measurement", ERROR: "Error of the prediction"}
PLAIN = "plain sum of rows"
SHOWN_WORST = 20
ABOUT_ROLE = {
    HELD_OUT: "which no fit has seen",
    FITTED: "on which the composition was fitted, so that this is no test of it",
}


def prediction(table: Lut) -> Chart | Absent:
    """Predicted against measured latency of the table's networks."""
    return _chart(table, PREDICTION)


def error(table: Lut) -> Chart | Absent:
    """Relative error of the same networks against their latency."""
    return _chart(table, ERROR)


def _chart(table: Lut, name: str) -> Chart | Absent:
    title = TITLES[name]
    try:
        found = predictions(table)
    except HwprofError as reason:
        return Absent(name, title, visible(reason))
    if found is None:
        return Absent(name, title, "no network was measured; hwprof validate measures some")
    if not found.networks:
        return Absent(name, title, "the measured networks hold ops without a row")
    values = _values(found)
    caption = _caption(found)
    layers = (_equal if name == PREDICTION else _errors)(found, values)
    about = f"{title}. {caption}."
    return Chart(name, title, caption, view(values, layers, height=340, about=about), _data(found))


def _model(found: Predictions) -> str:
    return "" if found.composition is None else f"composed: {visible(found.composition.model)}"


def _caption(found: Predictions) -> str:
    scope = found.scope
    size = sum(abs(one.error) for one in found.networks) / len(found.networks)
    role = f" {ABOUT_ROLE[found.role]}" if found.role in ABOUT_ROLE else ""
    words = (
        f"{counted(len(found.networks), 'network')} of {visible(scope.space)} "
        f"({scope.statistic}){role}; mean error {percent(size)}"
    )
    if found.composition is None:
        words += " of the plain sum of rows, since the table is uncalibrated"
    if found.noise_floor is not None:
        words += f"; two measurements of a network differ by {percent(found.noise_floor)}"
    if found.unpriced:
        words += f"; {counted(found.unpriced, 'network')} with an op that has no row left out"
    return words


def _values(found: Predictions) -> list[dict[str, Any]]:
    values = []
    for one in found.networks[:MOST_POINTS]:
        series = {PLAIN: one.raw_ms}
        if found.composition is not None:
            series[_model(found)] = one.predicted_ms
        for name, predicted_ms in series.items():
            values.append(
                {
                    "op_id": one.op_id,
                    "label": visible(one.label),
                    "series": name,
                    "measured_ms": one.measured_ms,
                    "predicted_ms": predicted_ms,
                    "error": predicted_ms / one.measured_ms - 1,
                    "told": f"{number(predicted_ms)} ms, measured {number(one.measured_ms)} ms",
                    "off": signed_percent(predicted_ms / one.measured_ms - 1),
                }
            )
    return values


def _points(found: Predictions, y: Spec) -> Spec:
    order = [name for name in (_model(found), PLAIN) if name]
    shown = named("series", "", scale={"domain": order})
    return {
        "mark": {"type": "point", "cursor": "pointer"},
        "encoding": {
            "x": axis("measured_ms", "measured, ms"),
            "y": y,
            "color": shown,
            "shape": shown,
            "tooltip": tips(label="network", told="latency", off="error", series="by"),
        },
    }


def _equal(found: Predictions, values: list[dict[str, Any]]) -> list[Spec]:
    ends = [function(value["measured_ms"] for value in values) for function in (min, max)]
    line = {
        "data": {"values": [{"measured_ms": end, "predicted_ms": end} for end in ends]},
        "mark": {"type": "line", "style": "guide"},
        "encoding": {
            "x": axis("measured_ms", "measured, ms"),
            "y": axis("predicted_ms", "predicted, ms"),
        },
    }
    return [line, _points(found, axis("predicted_ms", "predicted, ms"))]


def _errors(found: Predictions, values: list[dict[str, Any]]) -> list[Spec]:
    title = "predicted / measured - 1"
    zero = {
        "data": {"values": [{"error": 0}]},
        "mark": {"type": "rule", "style": "guide"},
        "encoding": {"y": axis("error", title)},
    }
    layers = [zero, _points(found, axis("error", title, axis={"format": "+.1%"}))]
    if found.noise_floor is not None:
        band = {
            "data": {"values": [{"low": -found.noise_floor, "high": found.noise_floor}]},
            "mark": {"type": "rect", "style": "band"},
            "encoding": {"y": axis("low", title), "y2": {"field": "high"}},
        }
        layers.insert(0, band)
    return layers


def _data(found: Predictions) -> DataTable:
    worst = sorted(found.networks, key=lambda one: -abs(one.error))[:SHOWN_WORST]
    rows = tuple(
        (
            visible(one.label),
            number(one.measured_ms),
            number(one.predicted_ms),
            signed_percent(one.error),
            number(one.raw_ms),
        )
        for one in worst
    )
    return DataTable(
        ("network, worst first", "measured, ms", "predicted, ms", "error", "plain sum, ms"), rows
    )
