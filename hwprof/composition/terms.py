"""Terms: what a network's latency is a weighted sum of.

A row is an op timed alone: it pays the run's overhead and, at both of its borders, what a runtime does
to a tensor that comes from or goes to a caller; and its weights stay in the caches. Inside a network
the first two are paid once and the weights are further away.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod

from hwprof.graph import cost
from hwprof.graph.cost import DTYPE_BYTES
from hwprof.ops import OpSpec

TERMS = {
    "rows": "sum of the ops' rows, ms",
    "cuts": "borders between two ops, of which a chain of n ops has n - 1",
    "cut_mib": "tensors of the ops' borders that are not the network's own, MiB",
    "weight_mib": "weights of the ops, MiB",
    "once": "1: what a network pays or is spared once, however many ops it has",
}
"""Name and meaning of each term of a network; a coefficient is in ms per unit (of `rows`: a factor)."""

MEASURED = {
    "edges": "sum of E(a, b) = T(a -> b) - T(a) - T(b) over neighbours, ms",
    "behind": "sum of T(a -> b) - T(a) of the ops b, each behind a fixed neighbour a, ms",
}
"""Terms that need pairs to be measured."""

MIB = 1 << 20


@lru_cache(maxsize=65536)
def op_terms(op: OpSpec) -> dict[str, float]:
    """What one op adds to each term but `rows`."""
    graph = op.lower()
    size = DTYPE_BYTES[op.dtype] / MIB
    border = sum(prod(graph.shapes[name]) for name in (*graph.inputs, *graph.outputs))
    weights = cost(graph).parameters * size
    return {"cuts": 1.0, "cut_mib": border * size, "weight_mib": weights, "once": 0.0}


def border_terms(first: OpSpec, last: OpSpec) -> dict[str, float]:
    """What a network adds to each term beside its ops: its own borders are there alone and in the
    network."""
    size = DTYPE_BYTES[first.dtype] / MIB
    graph = last.lower()
    own = prod(first.shape) + prod(graph.shapes[graph.outputs[0]])
    return {"cuts": -1.0, "cut_mib": -own * size, "weight_mib": 0.0, "once": 1.0}


def network_terms(ops: Sequence[OpSpec], rows_ms: Sequence[float]) -> dict[str, float]:
    """All terms of the network that runs `ops` in this order, from the latencies of their rows."""
    total = dict(border_terms(ops[0], ops[-1]))
    for op in ops:
        for name, value in op_terms(op).items():
            total[name] += value
    return {"rows": float(sum(rows_ms)), **total}
