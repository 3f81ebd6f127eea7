"""Edges: what two neighbours cost together beyond their rows, E(a, b) = T(a -> b) - T(a) - T(b).

Keyed by the two op kinds and the tensor at the cut, so that a few pairs serve a space. Mostly negative:
a pair pays the run's overhead once and changes no layout between its ops.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from hwprof.composition.composition import Scope
from hwprof.errors import LutError, MissingRow
from hwprof.lut import Lut
from hwprof.ops import OpSpec, ops_from_json
from hwprof.space import Space

EdgeKey = tuple[str, str, tuple[int, ...]]
Pair = tuple[OpSpec, OpSpec]


def edge_key(first: OpSpec, second: OpSpec) -> EdgeKey:
    """(kind, kind, shape of the tensor between them)."""
    return first.kind, second.kind, second.shape


def edge_keys(ops: Sequence[OpSpec]) -> list[EdgeKey]:
    """The edges of a chain, in its order."""
    return [edge_key(a, b) for a, b in pairwise(ops)]


def edge_pairs(space: Space, rows_ms: Mapping[OpSpec, float]) -> tuple[Pair, ...]:
    """One pair for each edge that a network of the space can have: the ops of middling latency.

    Across a skip the neighbours are the blocks around it.
    """
    found: dict[EdgeKey, list[Pair]] = {}
    for pair in neighbours(space):
        found.setdefault(edge_key(*pair), []).append(pair)
    return tuple(
        sorted(pairs, key=lambda pair: (rows_ms[pair[0]] + rows_ms[pair[1]], pair[0].op_id))[
            len(pairs) // 2
        ]
        for pairs in found.values()
    )


def edge_latencies_ms(table: Lut, scope: Scope) -> dict[EdgeKey, float]:
    """E(a, b) of every pair row of the scope whose two ops have a row; the mean where a key has
    several. Unstable rows count too: without one of its edges a whole composition would be missing."""
    found: dict[EdgeKey, list[float]] = {}
    for first, second, pair_ms, first_ms, second_ms in pair_latencies_ms(table, scope):
        found.setdefault(edge_key(first, second), []).append(pair_ms - first_ms - second_ms)
    return {key: sum(values) / len(values) for key, values in found.items()}


def pair_latencies_ms(table: Lut, scope: Scope) -> Iterator[tuple[OpSpec, OpSpec, float, float, float]]:
    """Every pair of the scope's environment, batch, dtype and cache state that has a number, as its ops
    have: the two ops, T(a -> b), T(a) and T(b)."""
    where = {name: getattr(scope, name) for name in ("environment_id", "batch", "dtype", "cache")}
    alone_ms = _values(table.filter(granularity="op", **where), scope.column)
    pairs = table.filter(granularity="pair", **where)
    pair_ms = _values(pairs, scope.column)
    for row in pairs.columns(["op_id", "op_json"]).to_pylist():
        first, second = _two(ops_from_json(row["op_json"]), table)
        known = first.op_id in alone_ms and second.op_id in alone_ms
        if known and row["op_id"] in pair_ms:
            yield first, second, pair_ms[row["op_id"]], alone_ms[first.op_id], alone_ms[second.op_id]


def _two(ops: Sequence[OpSpec], table: Lut) -> tuple[OpSpec, OpSpec]:
    if len(ops) != 2:
        raise LutError(f"{table.path}: a pair of {len(ops)} ops; see: hwprof lut lint {table.path}")
    return ops[0], ops[1]


def _values(rows: Lut, column: str) -> dict[str, float]:
    """id -> number, of the rows that have one."""
    values = rows.columns(["op_id", column]).to_pylist()
    return {
        row["op_id"]: row[column]
        for row, usable in zip(values, rows.usable(allow_unstable=True), strict=True)
        if usable and row[column] is not None
    }


def space_edges(space: Space) -> list[EdgeKey]:
    """Every edge that a network of the space can have."""
    return list(dict.fromkeys(edge_key(*pair) for pair in neighbours(space)))


def require_edges(table: Lut, wanted: Sequence[EdgeKey], known: Mapping[EdgeKey, float]) -> None:
    """Raises MissingRow where the table lacks the pair of an edge."""
    missing = [key for key in dict.fromkeys(wanted) if key not in known]
    if missing:
        kind, other, shape = missing[0]
        raise MissingRow(
            f"{table.path} has no pair row for {len(missing)} of {len(set(wanted))} edges (first: "
            f"{kind} -> {other} at {'x'.join(map(str, shape))}); measure them: "
            f"hwprof calibrate {table.path} --edges"
        )


def neighbours(space: Space) -> Iterator[Pair]:
    """Every two ops that may follow each other."""
    before: list[OpSpec] = []
    for position in space.positions:
        ends: list[OpSpec] = []
        skips = False
        for choice in position.choices:
            if not choice.ops:
                skips = True
                continue
            yield from ((op, choice.ops[0]) for op in before)
            yield from pairwise(choice.ops)
            ends.append(choice.ops[-1])
        before = [*ends, *before] if skips else ends
