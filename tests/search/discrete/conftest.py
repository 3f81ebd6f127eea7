"""A small space with known values, and the objectives over it."""

from itertools import pairwise

import numpy as np
import pytest

from hwprof.search.discrete.decisions import PositionDecisions
from hwprof.search.discrete.objectives import Objective, Objectives
from hwprof.space import load_space


@pytest.fixture(scope="session")
def nb201():
    return load_space("nb201")


@pytest.fixture(scope="session")
def decisions(nb201):
    """Every cell counts as a network, so that all 15,625 can be asked for."""
    return PositionDecisions(nb201, exists=lambda point: True)


@pytest.fixture
def objectives(nb201):
    """Two that contradict each other and are not additive: a made-up accuracy and a made-up latency."""
    rng = np.random.default_rng(0)
    quality, cost = rng.random((6, 5)), rng.random((6, 5))
    pairs = rng.random((5, 5))

    def edges(point):
        return [point[place] for place, one in enumerate(nb201.positions) if one.kind == "edge"]

    def accuracy(point):
        chosen = edges(point)
        return float(
            sum(quality[n, c] for n, c in enumerate(chosen))
            + sum(pairs[a, b] for a, b in pairwise(chosen))
        )

    def latency(point):
        return float(1.0 + sum(cost[n, c] + quality[n, c] for n, c in enumerate(edges(point))))

    return Objectives(
        [
            Objective("accuracy", accuracy, larger_is_better=True),
            Objective("latency", latency, unit="ms"),
        ]
    )
