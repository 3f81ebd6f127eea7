"""What each choice of a space costs by a table. No PyTorch here."""

from __future__ import annotations

import pyarrow as pa

from hwprof.errors import MissingRow
from hwprof.lut import Lut
from hwprof.lut.missing import NAMED
from hwprof.ops import OpSpec
from hwprof.space import Space


def choice_latencies(
    table: Lut,
    space: Space,
    *,
    environment: str | None = None,
    column: str = "latency_ms",
    cache: str = "warm",
    allow_unstable: bool = False,
) -> tuple[tuple[float, ...], ...]:
    """Latency of each choice of each position: the sum of its ops' rows, exactly 0 without ops.

    The arguments are those of `Lut.latencies_ms`; the numbers are in the unit of `column`.

    Raises:
        MissingRow: ops without a usable row, all of them named; or rows of several environments.
        LutError: an argument is not one of its allowed values.
    """
    ops = space.ops()
    try:
        values = table.latencies_ms(
            ops, column, environment=environment, cache=cache, allow_unstable=allow_unstable
        )
    except MissingRow as error:
        missing = _missing_ops(table, ops, environment, cache, allow_unstable)
        if len(missing) <= NAMED:
            raise
        labels = ", ".join(op.label for op in missing)
        raise MissingRow(f"{error}; all of them: {labels}") from None
    latency_of = dict(zip(ops, values.tolist(), strict=True))
    return tuple(
        tuple(sum((latency_of[op] for op in choice.ops), 0.0) for choice in position.choices)
        for position in space.positions
    )


def _missing_ops(
    table: Lut, ops: tuple[OpSpec, ...], environment: str | None, cache: str, allow_unstable: bool
) -> list[OpSpec]:
    """Ops without a usable row; none where it is the choice of rows that fails and not the ops."""
    rows = table.rows_matching("op", cache, environment, None)
    matching = table.columns(["op_id", "environment_id"]).take(pa.array(rows))
    if len(matching.column("environment_id").unique()) != 1:
        return []
    usable = pa.array(table.usable(allow_unstable)[rows])
    there = set(matching.column("op_id").filter(usable).to_pylist())
    return [op for op in ops if op.op_id not in there]
