"""Several costs of a network at once: latency, energy, parameters, FLOPs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hwprof.errors import LutError
from hwprof.graph import cost
from hwprof.lut import COLUMNS, Lut
from hwprof.search.expectation import Expectation
from hwprof.search.expected_latency import ExpectedLatency
from hwprof.search.stacked import Stacked
from hwprof.space import Space

COUNTS = ("flops", "parameters", "bytes_moved")
"""Columns that follow from an op alone and need no table."""

COMPOSED = ("latency_ms", "p50_ms")
"""Columns that compositions are fitted for."""

SUMMED = (*COMPOSED, "energy_mj", *COUNTS)
"""All columns whose network value is the sum over its ops (by a composition, if there is one)."""

QUANTILE = "a network's quantile is not the sum of its ops', and no composition is fitted for it"
REASONS = {
    "peak_memory_bytes": "a network's peak is that of its fullest moment",
    "latency_low_ms": "ends of intervals do not add up; take latency_ms with sigmas=",
    "latency_high_ms": "ends of intervals do not add up; take latency_ms with sigmas=",
    "min_ms": QUANTILE,
    "p10_ms": QUANTILE,
    "p90_ms": QUANTILE,
    "p99_ms": QUANTILE,
}


class ExpectedCosts(Stacked):
    """Expected costs of a distribution over networks, of shape (..., columns), with the calls of
    `ExpectedLatency`.

    Args:
        table: a table with a row for each op of the space; None where all columns are counts.
        space: its positions and choices give the order of every tensor here.
        columns: of `SUMMED`. `flops`, `parameters` and `bytes_moved` are counted from the space's ops.
        environment, cache, allow_unstable, dtype: as of `ExpectedLatency`.
        calibrated: as of `ExpectedLatency`, for `latency_ms` and `p50_ms`; other columns are plain sums.
        sigmas: as of `ExpectedLatency`, for `latency_ms`.

    Attributes:
        columns: names of the last dimension.
        units: unit of each.

    Raises:
        LutError: a column that does not add up, with the reason; a column twice; a table column without
            a table.
        MissingRow: as `ExpectedLatency`; also rows without a value in a column.
    """

    def __init__(
        self,
        table: Lut | None,
        space: Space,
        columns: Sequence[str] = ("latency_ms", "flops", "parameters"),
        *,
        environment: str | None = None,
        cache: str = "warm",
        allow_unstable: bool = False,
        calibrated: bool | None = None,
        sigmas: float = 0.0,
        dtype: torch.dtype | None = None,
    ) -> None:
        _check(columns, table, sigmas)
        parts: list[Expectation] = []
        for column in columns:
            if column in COUNTS or table is None:
                parts.append(expected_count(space, column, dtype=dtype))
                continue
            expected = ExpectedLatency(
                table, space,
                environment=environment, column=column, cache=cache, allow_unstable=allow_unstable,
                calibrated=calibrated if column in COMPOSED else None,
                sigmas=sigmas if column == "latency_ms" else 0.0, dtype=dtype,
            )  # fmt: skip
            parts.append(expected)
        super().__init__(parts)
        unit_of = {column.name: column.unit for column in COLUMNS}
        self.columns = tuple(columns)
        self.units = tuple(unit_of[column] for column in columns)

    def extra_repr(self) -> str:
        return f"space={self.name}, columns={', '.join(self.columns)}"


def expected_count(space: Space, column: str, *, dtype: torch.dtype | None = None) -> Expectation:
    """Expected FLOPs, parameters or bytes moved, from the space's ops alone."""
    count_of = {op: float(getattr(cost(op.lower()), column)) for op in space.ops()}
    counts = [
        [sum(count_of[op] for op in choice.ops) for choice in position.choices]
        for position in space.positions
    ]
    return Expectation(space.name, [position.name for position in space.positions], counts, dtype=dtype)


def _check(columns: Sequence[str], table: Lut | None, sigmas: float) -> None:
    if not columns or len(set(columns)) < len(columns):
        raise LutError(f"columns are one or more different ones, got {list(columns)}")
    for column in columns:
        if column not in SUMMED:
            reason = REASONS.get(column, "it is no cost of a network")
            raise LutError(
                f"column {column!r} does not add up over a network's ops ({reason}); choose of "
                f"{', '.join(SUMMED)}"
            )
        if table is None and column not in COUNTS:
            raise LutError(f"column {column} needs a table; without one choose of {', '.join(COUNTS)}")
    if sigmas != 0.0 and "latency_ms" not in columns:
        raise LutError("sigmas is of the interval around latency_ms, which is not among the columns")
