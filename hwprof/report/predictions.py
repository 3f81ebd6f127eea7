"""The measured networks of a table, each priced from the table's rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import inf
from typing import Any

import numpy as np

from hwprof.composition.composition import COLUMN_OF, Composition, Scope, composition_for, compositions
from hwprof.composition.price import Pricer
from hwprof.errors import LutError
from hwprof.lut import Lut
from hwprof.ops import OpSpec
from hwprof.validation.measured import MeasuredNetwork, measured_networks

HELD_OUT, FITTED, UNCALIBRATED = "held out", "fitted on", "uncalibrated"


@dataclass(frozen=True)
class Prediction:
    """A network, measured and predicted; `raw_ms` is the plain sum of its rows."""

    op_id: str
    label: str
    measured_ms: float
    predicted_ms: float
    raw_ms: float

    @property
    def error(self) -> float:
        """Predicted / measured - 1."""
        return self.predicted_ms / self.measured_ms - 1.0


@dataclass(frozen=True)
class Predictions:
    """Networks of one scope.

    Attributes:
        composition: None where the table is uncalibrated and predictions are plain sums.
        role: whether the composition has seen them: `HELD_OUT`, `FITTED`, or `UNCALIBRATED`.
        unpriced: networks left out, which hold an op or an edge without a usable row.
        noise_floor: mean disagreement of the networks' two measurements; None without visits.
    """

    scope: Scope
    composition: Composition | None
    role: str
    networks: tuple[Prediction, ...]
    unpriced: int
    noise_floor: float | None


def predictions(table: Lut) -> Predictions | None:
    """The networks that a validation held out; without one those of a fit; without that all. Of several
    validations or fits, the one of most networks. None where no network has a number.

    Raises:
        LutError: the metadata hold something else than a composition or a validation.
    """
    best = max(_candidates(table), key=lambda found: len(found[1]), default=None)
    if best is None:
        return None
    scope, ids, role, measured_in = best
    if scope.statistic not in COLUMN_OF:
        raise LutError(f"statistic {scope.statistic!r} is unknown; choose of {', '.join(COLUMN_OF)}")
    composition = composition_for(table.metadata, scope)
    try:
        networks = measured_networks(table, scope, ids, measured_in, allow_unstable=True)
    except (ArithmeticError, TypeError, ValueError, RecursionError):
        raise LutError(f"{table.path}: the row of a network cannot be read") from None
    timed = [network for network in networks if 0 < network.latency_ms < inf]
    return _priced(table, scope, composition, role, timed) if timed else None


def _candidates(table: Lut) -> list[tuple[Scope, Sequence[str], str, str | None]]:
    environments = table.columns(["environment_id"]).column(0).unique().to_pylist()
    validated = [
        (_scope(entry), _ids(entry), HELD_OUT, entry.get("measured_in"))
        for entry in _entries(table.metadata["validation"])
    ]
    fitted = [(made.scope, made.networks, FITTED, None) for made in compositions(table.metadata)]
    for found in (validated, fitted):
        if here := [one for one in found if one[0].environment_id in environments]:
            return list(here)
    return _all_networks(table)


def _entries(validation: Any) -> Sequence[Mapping[str, Any]]:
    """Each validation of a table's metadata."""
    found = validation or []
    names = [field.name for field in fields(Scope)]
    if isinstance(found, list) and all(_has(entry, names) for entry in found):
        return found
    raise LutError("the table's validation is not one that this hwprof reads; validate it again")


def _has(entry: Any, names: Sequence[str]) -> bool:
    """Whether it has these fields and a list of networks, or none: older tables named none."""
    if not isinstance(entry, Mapping) or not all(name in entry for name in names):
        return False
    return isinstance(entry.get("ids", []), list)


def _scope(entry: Mapping[str, Any]) -> Scope:
    return Scope(**{field.name: entry[field.name] for field in fields(Scope)})


def _ids(entry: Mapping[str, Any]) -> Sequence[str]:
    return [str(name) for name in entry.get("ids", [])]


def _all_networks(table: Lut) -> list[tuple[Scope, Sequence[str], str, str | None]]:
    """All networks of each environment, space, batch, dtype and cache state."""
    names = ("environment_id", "space", "batch", "dtype", "cache")
    rows = table.filter(granularity="network").columns([*names, "op_id"]).to_pylist()
    groups: dict[Scope, list[str]] = {}
    for row in rows:
        scope = Scope(**{name: row[name] for name in names}, statistic="floor")
        groups.setdefault(scope, []).append(row["op_id"])
    return [(scope, ids, UNCALIBRATED, None) for scope, ids in groups.items()]


def _priced(
    table: Lut,
    scope: Scope,
    composition: Composition | None,
    role: str,
    networks: Sequence[MeasuredNetwork],
) -> Predictions:
    known = _priced_ops(table, scope)
    whole = [n for n in networks if n.ops and all(op.op_id in known for op in n.ops)]
    ops: list[OpSpec] = list(dict.fromkeys(op for network in whole for op in network.ops))
    made = []
    if whole:
        pricer = Pricer(table, scope, ops, composition, allow_unstable=True)
        plain = Pricer(table, scope, ops, None, allow_unstable=True)
        made = [
            Prediction(
                network.op_id,
                network.label,
                network.latency_ms,
                pricer.price(network.ops).latency_ms,
                plain.price(network.ops).latency_ms,
            )
            for network in whole
        ]
    noise = [n.disagreement for n in networks if n.disagreement is not None]
    return Predictions(
        scope=scope,
        composition=composition,
        role=role,
        networks=tuple(made),
        unpriced=len(networks) - len(whole),
        noise_floor=float(np.mean(noise)) if noise else None,
    )


def _priced_ops(table: Lut, scope: Scope) -> set[str]:
    """Ids of the ops with a number of the scope."""
    rows = table.filter(granularity="op", environment_id=scope.environment_id, cache=scope.cache)
    columns = rows.columns(["op_id", scope.column])
    there = rows.usable(allow_unstable=True) & columns.column(scope.column).is_valid().to_numpy()
    return {
        op_id for op_id, priced in zip(columns.column("op_id").to_pylist(), there, strict=True) if priced
    }
