"""The charts of one table by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hwprof.lut import Lut
from hwprof.report import drift, heatmap, latency_flops, prediction
from hwprof.report.chart import Absent, Chart

COMPARISON = "change"
"""The chart of two tables (`hwprof.report.changes`)."""

CHARTS: Mapping[str, Callable[[Lut], Chart | Absent]] = {
    latency_flops.NAME: latency_flops.latency_flops,
    heatmap.NAME: heatmap.heatmap,
    drift.NAME: drift.drift,
    prediction.PREDICTION: prediction.prediction,
    prediction.ERROR: prediction.error,
}
