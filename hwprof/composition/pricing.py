"""What each choice of a space costs by a table. No PyTorch here."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pyarrow as pa

from hwprof.composition.composition import COLUMN_OF, Composition, Scope, composition_for
from hwprof.composition.price import Pricer
from hwprof.errors import LutError, MissingRow
from hwprof.lut import Lut
from hwprof.lut.missing import NAMED
from hwprof.ops import OpSpec
from hwprof.space import Space

ChoiceCosts = tuple[tuple[float, ...], ...]


def choice_latencies(
    table: Lut,
    space: Space,
    *,
    environment: str | None = None,
    column: str = "latency_ms",
    cache: str = "warm",
    allow_unstable: bool = False,
) -> ChoiceCosts:
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


def composed_costs(pricer: Pricer, space: Space) -> ChoiceCosts:
    """As `choice_latencies`, by the pricer's composition: what each choice adds to a network whatever
    stands beside it. Edges within a choice are in it, those to its neighbours are not."""

    def cost(ops: Sequence[OpSpec], begins: bool) -> float:
        inside = sum(pricer.edge_ms(a, b) for a, b in pairwise(ops)) if space.family == "chain" else 0.0
        each = (pricer.op_ms(op, first=begins and place == 0) for place, op in enumerate(ops))
        return sum(each, inside)

    return tuple(
        tuple(cost(choice.ops, number == 0) for choice in position.choices)
        for number, position in enumerate(space.positions)
    )


def space_border_ms(pricer: Pricer, space: Space) -> float:
    """What the input and output of every network of the space add."""
    runs = [op for position in space.positions for choice in position.choices for op in choice.ops]
    return pricer.border_ms(runs[0], runs[-1])


def table_composition(
    table: Lut, space: Space, *, environment: str | None, column: str, cache: str
) -> Composition | None:
    """The table's composition for networks of this space, None where it is uncalibrated for them.

    Call it where `choice_latencies` found the rows: they are of one environment then.
    """
    statistics = [name for name, its_column in COLUMN_OF.items() if its_column == column]
    if not statistics:
        return None
    rows = table.rows_matching("op", cache, environment, None)
    found = table.columns(["environment_id"]).take(pa.array(rows[:1])).to_pylist()
    first = space.ops()[0]
    scope = Scope(
        environment_id=found[0]["environment_id"],
        space=space.name,
        batch=first.shape[0],
        dtype=first.dtype,
        cache=cache,
        statistic=statistics[0],
    )
    return composition_for(table.metadata, scope)


def uncalibrated(table: Lut, space: Space, column: str) -> LutError:
    """The error of a table that is uncalibrated where a composition was asked for."""
    if column not in COLUMN_OF.values():
        return LutError(
            f"column {column} has no composition; only {', '.join(COLUMN_OF.values())} are fitted on "
            "networks"
        )
    return LutError(
        f"{table.path} is uncalibrated for networks of {space.name}; run: hwprof calibrate {table.path}"
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
