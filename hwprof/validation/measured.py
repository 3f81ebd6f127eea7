"""Measured networks of a table, ready to be predicted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hwprof import stats
from hwprof.composition.composition import Scope
from hwprof.lut import Lut
from hwprof.ops import OpSpec, ops_from_json


@dataclass(frozen=True)
class MeasuredNetwork:
    """A network's row.

    Attributes:
        ops: in running order.
        latency_ms: by the scope's statistic.
        passes_ms: the same from each of its two measurements alone, by different processes; fewer where
            one of them has no clean visit.
    """

    op_id: str
    label: str
    ops: tuple[OpSpec, ...]
    flops: int
    latency_ms: float
    passes_ms: tuple[float, ...]
    state: str

    @property
    def disagreement(self) -> float | None:
        """Relative distance of its two measurements."""
        if len(self.passes_ms) < 2:
            return None
        first, second = self.passes_ms[:2]
        return abs(first - second) / ((first + second) / 2)


def measured_networks(
    table: Lut,
    scope: Scope,
    wanted: Iterable[str],
    measured_in: str | None = None,
    *,
    allow_unstable: bool = False,
) -> list[MeasuredNetwork]:
    """The networks of these ids that have a usable row, in this order.

    Args:
        measured_in: environment of the networks' rows; None: the scope's.
        allow_unstable: a row whose visits disagree is usable too.
    """
    where = measured_in or scope.environment_id
    rows = table.filter(granularity="network", environment_id=where, cache=scope.cache)
    found = {
        row["op_id"]: row
        for row, usable in zip(rows.table.to_pylist(), rows.usable(allow_unstable), strict=True)
        if usable and row[scope.column] is not None
    }
    ids = [op_id for op_id in wanted if op_id in found]
    passes = _passes_ms(table, scope, where, ids)
    return [
        MeasuredNetwork(
            op_id,
            found[op_id]["label"],
            ops_from_json(found[op_id]["op_json"]),
            found[op_id]["flops"],
            found[op_id][scope.column],
            passes.get(op_id, ()),
            found[op_id]["state"],
        )
        for op_id in ids
    ]


def _passes_ms(table: Lut, scope: Scope, where: str, ids: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Each network's statistic over the clean visits of its first and of its second pass."""
    column = "p10_ms" if scope.statistic == "floor" else "p50_ms"
    visits: dict[str, dict[int, list[float]]] = {op_id: {} for op_id in ids}
    names = ["op_id", "granularity", "environment_id", "cache", "phase", "clean", column]
    for visit in table.visits.select(names).to_pylist():
        here = visit["environment_id"] == where and visit["cache"] == scope.cache
        if visit["granularity"] == "network" and here and visit["clean"] and visit["op_id"] in visits:
            visits[visit["op_id"]].setdefault(visit["phase"], []).append(visit[column])
    summary = stats.floor_ms if scope.statistic == "floor" else _median
    return {
        op_id: tuple(summary(phases[phase]) for phase in sorted(phases))
        for op_id, phases in visits.items()
    }


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))
