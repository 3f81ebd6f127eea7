"""Seeded weights that keep the variance of what flows through a Graph.

Numbers decide the time: the same network with small random weights took 93 ms instead of 6.3 ms
(denormals), and plain He weights reach 1e7 after 28 residual blocks (design, section 5). So weights
are He-normal times the node's `gain`, and biases are small but not zero, as a folded BatchNorm
leaves them.
"""

from __future__ import annotations

from math import prod, sqrt

import numpy as np
from numpy.typing import NDArray

from hwprof.graph.graph import WEIGHTED, Graph

BIAS_SD = 0.05
WEIGHT_SEED = 20261121


def node_weights(graph: Graph, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Kernel and bias of node `index`, float32. Depends on nothing but the node's place and shape."""
    node = graph.nodes[index]
    if node.primitive not in WEIGHTED:
        raise ValueError(f"node {index} ({node.primitive}) has no weights")
    shape = graph.weight_shape(node)
    rng = np.random.default_rng([WEIGHT_SEED, index])
    sd = node.gain * sqrt(2.0 / prod(shape[1:]))
    kernel = rng.standard_normal(shape, dtype=np.float32) * np.float32(sd)
    bias = rng.standard_normal(shape[0], dtype=np.float32) * np.float32(BIAS_SD)
    return kernel, bias


def random_inputs(graph: Graph, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Standard normal float32 inputs by tensor name."""
    return {name: rng.standard_normal(graph.shapes[name], dtype=np.float32) for name in graph.inputs}
