"""The rows of a table as observations: split into the units that the runtime ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwprof.composition.composition import COLUMN_OF
from hwprof.environment import Environment
from hwprof.errors import HwprofError, LutError
from hwprof.graph import cost
from hwprof.lut import Lut
from hwprof.models.graph_model import known_model
from hwprof.models.split import block_channels, split
from hwprof.models.term_model import Observation
from hwprof.models.units import Split
from hwprof.ops import OpSpec, lower, ops_from_json

KIND = ("environment_id", "dtype", "cache")
MOST_KINDS = 6
"""Listed in an error's one line."""


@dataclass(frozen=True)
class Selection:
    """Rows of one environment, dtype and cache state.

    Attributes:
        statistic: `floor` or `p50`.
        identity: of the environment.
        block: channels of a block of the runtime's own layout, or None.
        allow_unstable: whether rows in state `unstable` count too.
    """

    table: Lut
    environment_id: str
    dtype: str
    cache: str
    statistic: str
    identity: Mapping[str, Any]
    block: int | None
    allow_unstable: bool = False

    @property
    def column(self) -> str:
        return COLUMN_OF[self.statistic]

    @property
    def cache_bytes(self) -> float:
        """Of the last cache of the machine; unlimited where the environment does not say."""
        levels = [self.identity.get(f"cache_l{level}_bytes") for level in (1, 2, 3)]
        return float(max((size for size in levels if size), default=float("inf")))

    @property
    def where(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in KIND}


def select_rows(
    table: Lut,
    *,
    environment_id: str | None = None,
    dtype: str | None = None,
    cache: str | None = None,
    statistic: str = "floor",
    allow_unstable: bool = False,
) -> Selection:
    """The op rows that a prediction is made from; what is None must be unambiguous.

    Raises:
        LutError: no such rows, rows of several kinds (listed), or an unknown statistic.
    """
    if statistic not in COLUMN_OF:
        raise LutError(f"statistic {statistic!r} is unknown; choose of {', '.join(COLUMN_OF)}")
    given = {"environment_id": environment_id, "dtype": dtype, "cache": cache}
    only = {name: value for name, value in given.items() if value is not None}
    rows = table.filter(granularity="op", **only)
    kinds = rows.columns(KIND).group_by(list(KIND)).aggregate([]).to_pylist()
    told = sorted(", ".join(str(kind[name]) for name in KIND) for kind in kinds)
    if not kinds:
        said = ", ".join(f"{name} {value}" for name, value in only.items())
        raise LutError(
            f"{table.path} has no op rows{f' of {said}' if said else ''}; nothing to price by"
        )
    if len(kinds) > 1:
        raise LutError(
            f"{table.path} has op rows of {len(kinds)} kinds ({' / '.join(told[:MOST_KINDS])}"
            f"{' and others' if len(told) > MOST_KINDS else ''}); name one with "
            "--environment, --dtype or --cache"
        )
    chosen = kinds[0]
    stored = table.environments.get(chosen["environment_id"], {})
    identity = Environment.from_dict(stored).identity
    block = block_channels(identity, chosen["dtype"])
    return Selection(
        table,
        chosen["environment_id"],
        chosen["dtype"],
        chosen["cache"],
        statistic,
        identity,
        block,
        allow_unstable,
    )


def observations(selection: Selection) -> list[Observation]:
    """Every usable op row whose op can be split.

    Raises:
        LutError: a latency is none: zero, negative or infinite.
    """
    rows = selection.table.filter(granularity="op", **selection.where)
    values = rows.columns(["op_json", "label", selection.column]).to_pylist()
    found = []
    for row, usable in zip(values, rows.usable(selection.allow_unstable), strict=True):
        latency_ms = row[selection.column]
        if not usable or latency_ms is None:
            continue
        if not 0.0 < latency_ms < float("inf"):
            raise LutError(
                f"{selection.column} of {row['label']} in {selection.table.path} is {latency_ms:g}, not "
                f"above 0 and finite; what is wrong with it: hwprof lut lint {selection.table.path}"
            )
        model = known_model(OpSpec.from_json(row["op_json"]).lower())
        if model is not None:
            units = split(model, selection.block).units
            found.append(Observation.of(row["label"], units, latency_ms))
    return found


def measured_splits(selection: Selection) -> list[tuple[str, Split, float]]:
    """Label, units and latency of the table's networks that are chains of its ops."""
    rows = selection.table.filter(granularity="network", **selection.where)
    columns = ["op_json", "label", "flops", "bytes_moved", selection.column]
    usable_rows = rows.usable(selection.allow_unstable)
    found = []
    for row, usable in zip(rows.columns(columns).to_pylist(), usable_rows, strict=True):
        if not usable or row[selection.column] is None:
            continue
        try:
            graph = lower(ops_from_json(row["op_json"]))
        except HwprofError:
            continue  # a network with branches: its row does not say how they are joined
        analytic = cost(graph)
        model = known_model(graph)
        same = (analytic.flops, analytic.bytes_moved) == (row["flops"], row["bytes_moved"])
        if same and model is not None:
            found.append((row["label"], split(model, selection.block), row[selection.column]))
    return found
