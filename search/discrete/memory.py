"""Memory of a network: its fullest moment, from the Graph alone."""

from __future__ import annotations

from math import prod

from hwprof.graph import Graph, cost

BYTES = {"float32": 4, "float16": 2, "int8": 1}


def peak_bytes(graph: Graph) -> int:
    """Weights, and the tensors that are alive together where these are largest: those that a node reads,
    writes, or leaves for a later one, in execution order and with none overwritten in place. A runtime
    that reorders or fuses needs less."""
    size = BYTES[graph.dtype]
    last_use = {name: place for place, node in enumerate(graph.nodes) for name in node.inputs}
    last_use |= dict.fromkeys(graph.outputs, len(graph.nodes))
    alive = {name: size * prod(graph.shapes[name]) for name in graph.inputs}
    peak = 0
    for place, node in enumerate(graph.nodes):
        alive |= {name: size * prod(graph.shapes[name]) for name in node.outputs}
        peak = max(peak, sum(alive.values()))
        alive = {name: held for name, held in alive.items() if last_use.get(name, -1) > place}
    return peak + size * cost(graph).parameters
