"""Rows behind a neighbour: T(a -> b) - T(a), an op timed behind a fixed other one, in place of T(b).

What isolation adds to an op (the run's overhead, the layout of its input, an idle cache) is then in both
numbers and falls out. It costs a pair for every op of the space, where edges cost one for every border.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hwprof.composition.composition import Scope
from hwprof.composition.edges import Pair, neighbours, pair_latencies_ms
from hwprof.errors import MissingRow
from hwprof.lut import Lut
from hwprof.ops import OpSpec
from hwprof.space import Space


def behind_pairs(space: Space, rows_ms: Mapping[OpSpec, float]) -> tuple[Pair, ...]:
    """For every op that can follow another, the pair of it and the cheapest op before it: what the
    neighbour takes is noise to the op's own time."""
    found: dict[OpSpec, Pair] = {}
    for first, second in neighbours(space):
        known = found.get(second)
        if known is None or _cost(first, rows_ms) < _cost(known[0], rows_ms):
            found[second] = (first, second)
    return tuple(found.values())


def behind_ms(table: Lut, scope: Scope) -> dict[str, float]:
    """op_id -> T(a -> b) - T(a) of every op b that stands second in a pair row whose first op has a
    row; of several pairs that with the cheapest first op. Unstable rows count too."""
    found: dict[str, tuple[float, str, float]] = {}
    for first, second, pair_ms, first_ms, _ in pair_latencies_ms(table, scope):
        timed = (first_ms, first.op_id, pair_ms - first_ms)
        found[second.op_id] = min(timed, found.get(second.op_id, timed))
    return {op_id: value for op_id, (_, _, value) in found.items()}


def require_behind(table: Lut, ops: Iterable[OpSpec], known: Mapping[str, float]) -> None:
    """Raises MissingRow where the table lacks an op's time behind a neighbour."""
    wanted = dict.fromkeys(ops)
    missing = [op for op in wanted if op.op_id not in known]
    if missing:
        raise MissingRow(
            f"{table.path} has no pair row in which {missing[0].label} follows another op (it lacks "
            f"{len(missing)} of {len(wanted)}); measure them: hwprof calibrate {table.path} --behind"
        )


def _cost(op: OpSpec, rows_ms: Mapping[OpSpec, float]) -> tuple[float, str]:
    return rows_ms[op], op.op_id
