"""Measured: a table's whole networks as points and values of one metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwprof.composition.composition import COLUMN_OF, Scope
from hwprof.errors import LutError
from hwprof.lut import COLUMNS, Lut
from hwprof.prediction.decoding import Decoder
from hwprof.prediction.encoding import Floats, Integers
from hwprof.prediction.errors import PredictionError
from hwprof.space import Space, list_spaces, load_space
from hwprof.validation.measured import measured_networks

METRICS = (
    "latency_ms", "p50_ms", "min_ms", "p10_ms", "p90_ms", "p99_ms", "energy_mj", "peak_memory_bytes",
    "load_ms", "compile_ms", "flops", "parameters", "bytes_moved",
)  # fmt: skip
"""Columns of network rows that can be predicted."""
_NAMES = ("op_id", "op_json", "label", "reason", "space", "batch", "dtype", "environment_id")


@dataclass(frozen=True)
class Measured:
    """Networks that have a usable value.

    Attributes:
        space: with the batch size and dtype that they were measured at.
        points: (networks, positions).
        values: (networks,), in the metric's unit.
        noise_floor: mean relative distance of each network's two measurements; None where the table
            holds no second one.
    """

    space: Space
    op_ids: tuple[str, ...]
    points: Integers
    values: Floats
    metric: str
    unit: str
    environment_id: str
    noise_floor: float | None


def read_measured(
    table: Lut,
    space: Space | str | None = None,
    *,
    metric: str = "latency_ms",
    environment: str | None = None,
    cache: str = "warm",
    points: Mapping[str, Sequence[int]] | None = None,
) -> Measured:
    """
    Args:
        space: one, or its name or path; None: that of the rows, if it is a shipped one.
        points: of row ids, for networks whose rows do not tell them.

    Raises:
        PredictionError: no networks with a value, several spaces, environments, batch sizes or dtypes to
            choose from, an unknown metric, or a row of no network of the space.
        SpaceError: the space cannot be read.
    """
    if metric not in METRICS:
        raise PredictionError(f"metric {metric!r} is unknown; choose of {', '.join(METRICS)}")
    where = {} if environment is None else {"environment_id": environment}
    rows = table.filter(granularity="network", cache=cache, **where)
    if not len(rows):
        raise PredictionError(
            f"{table.path} has no measured networks{f' of {environment}' if environment else ''}; "
            f"measure some: hwprof validate {table.path} --networks 100"
        )
    found = rows.columns([*_NAMES, metric]).to_pylist()
    space = _space(table, found, space)
    mine = [place for place, row in enumerate(found) if row["space"] == space.name]
    if not mine:
        names = ", ".join(sorted({str(row["space"]) for row in found}))
        raise PredictionError(f"{table.path} has no networks of space {space.name}; it has {names}")
    for name, step in (("environment_id", "give --environment"), ("batch", "filter the table first"),
                       ("dtype", "filter the table first")):  # fmt: skip
        values = sorted({str(found[place][name]) for place in mine})
        if len(values) > 1:
            raise PredictionError(
                f"the networks of {table.path} are of {len(values)} kinds of {name} "
                f"({', '.join(values)}); {step}"
            )
    usable = rows.usable()
    kept = [found[place] for place in mine if usable[place] and found[place][metric] is not None]
    if not kept:
        raise PredictionError(_missing(table, rows, metric, len(mine)))
    space = space.with_options(kept[0]["batch"], kept[0]["dtype"])
    decoder = Decoder(space, points)
    unit = next(column.unit for column in COLUMNS if column.name == metric)
    return Measured(
        space=space,
        op_ids=tuple(row["op_id"] for row in kept),
        points=np.array([decoder.point(row) for row in kept], dtype=np.int64),
        values=np.array([row[metric] for row in kept], dtype=np.float64),
        metric=metric,
        unit=unit,
        environment_id=kept[0]["environment_id"],
        noise_floor=_noise_floor(table, kept, metric, cache),
    )


def _space(table: Lut, rows: Sequence[Mapping[str, Any]], given: Space | str | None) -> Space:
    if isinstance(given, Space):
        return given
    if given is not None:
        return load_space(given)
    names = sorted({row["space"] for row in rows if row["space"] is not None})
    if len(names) == 1 and names[0] in list_spaces():
        return load_space(names[0])
    of = ", ".join(names) if names else "no space"
    raise PredictionError(f"the networks of {table.path} are of {of}; give it with --space NAME or FILE")


def _missing(table: Lut, rows: Lut, metric: str, count: int) -> str:
    reasons: list[str] = []
    if metric in ("energy_mj", "peak_memory_bytes"):
        column = "energy_reason" if metric == "energy_mj" else "peak_memory_source"
        reasons = sorted({row[column] or "" for row in rows.columns([column]).to_pylist()})
    why = f" ({'; '.join(reasons[:3])})" if reasons else ""
    return (
        f"none of the {count} networks of {table.path} has a usable {metric}{why}; give another "
        f"--metric, or measure some: hwprof validate {table.path} --networks 100"
    )


def _noise_floor(table: Lut, rows: Sequence[Mapping[str, Any]], metric: str, cache: str) -> float | None:
    statistics = [name for name, column in COLUMN_OF.items() if column == metric]
    if not statistics or table.metadata["visits_hash"] is None:
        return None
    first = rows[0]
    scope = Scope(
        first["environment_id"], first["space"], first["batch"], first["dtype"], cache, statistics[0]
    )
    try:
        networks = measured_networks(table, scope, [row["op_id"] for row in rows])
    except LutError:
        # Tables are handed on without their visits; the floor is then not known, which is said.
        return None
    distances = [n.disagreement for n in networks if n.disagreement is not None]
    return float(np.mean(distances)) if distances else None
