"""Anchors: networks of the fit measured once more beside the held-out ones. A virtual machine's host
changes speed for all networks alike; anchors tell that shift from the error of the composition."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hwprof.build import build_lut, plan_of
from hwprof.build.progress import Progress
from hwprof.composition.composition import Composition
from hwprof.errors import BuildError
from hwprof.lut import load_lut
from hwprof.measure.messages import Job
from hwprof.validation.measured import measured_networks
from hwprof.validation.setting import Setting

ANCHORS = 5


@dataclass(frozen=True)
class Shift:
    """How much slower the machine is than at the time of the fit.

    Attributes:
        ratio: median over the anchors of latency now / latency then; `low` and `high` its extremes.
    """

    ratio: float
    low: float
    high: float
    anchors: int


def measure_shift(setting: Setting, composition: Composition, progress: Progress | None) -> Shift | None:
    """Measure some of the fit's networks again, spread over their latencies, into a table that is thrown
    away. None where the networks are no chains (their rows do not hold their Graphs), or none of the
    anchors has a number.

    Raises:
        HwprofError: as `build_lut`.
    """
    if setting.space.family != "chain":
        return None
    fitted = measured_networks(setting.table, composition.scope, composition.networks)
    fitted.sort(key=lambda network: network.latency_ms)
    places = np.unique(np.linspace(0, len(fitted) - 1, ANCHORS).round().astype(int))
    then_ms = {fitted[place].op_id: fitted[place].latency_ms for place in places}
    jobs = [Job(fitted[place].ops, "network") for place in places]
    with tempfile.TemporaryDirectory(prefix="hwprof-anchors-") as folder:
        options = replace(setting.build, out=Path(folder) / "anchors.parquet")
        planner = plan_of(setting.space, jobs, options.protocol().for_networks())
        if build_lut(options, progress, planner=planner).interrupted:
            raise BuildError("interrupted: the networks are kept; give the same command to go on")
        again = measured_networks(load_lut(options.out), composition.scope, then_ms)
    if not again:
        return None
    ratios = [network.latency_ms / then_ms[network.op_id] for network in again]
    return Shift(float(np.median(ratios)), min(ratios), max(ratios), len(ratios))
