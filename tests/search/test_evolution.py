"""Regularised evolution under a latency target."""

import numpy as np
import pytest

from hwprof.errors import SpaceError
from hwprof.search.evolution import evolve
from hwprof.space import load_space

SPACE = load_space("tiny")
COSTS = [[float(1 + i) for i in range(len(p.choices))] for p in SPACE.positions]


def latency(points):
    return [sum(row[i] for row, i in zip(COSTS, point, strict=True)) for point in points]


SLOWEST = sum(max(row) for row in COSTS)
FASTEST = sum(min(row) for row in COSTS)


def test_networks_are_different_fit_the_target_and_the_best_is_found():
    target = SLOWEST - 2.0
    found = list(evolve(SPACE, lambda point: latency([point])[0], latency, target, seed=0, population=8))
    assert len({one.point for one in found}) == len(found)
    assert all(one.latency <= target for one in found)
    assert max(one.score for one in found) == target


def test_same_seed_same_networks():
    runs = [
        [one.point for one in evolve(SPACE, sum, latency, SLOWEST, seed=3, evaluations=20)]
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert len(runs[0]) == 20


def test_small_space_ends_when_all_of_it_was_seen():
    found = list(evolve(SPACE, sum, latency, SLOWEST, seed=0, evaluations=10_000, population=4))
    assert len(found) == int(np.prod([len(row) for row in COSTS]))


def test_target_below_every_network_finds_none():
    assert not list(evolve(SPACE, sum, latency, FASTEST / 2, seed=0))


def test_proxy_that_says_nan_is_stopped_with_the_network():
    with pytest.raises(SpaceError, match="the proxy says NaN of network"):
        list(evolve(SPACE, lambda _: float("nan"), latency, SLOWEST, seed=0))


def test_networks_stay_above_the_lower_bound_and_a_start_that_is_too_slow_is_moved():
    slowest = tuple(len(row) - 1 for row in COSTS)
    bounds = (FASTEST + 2.0, FASTEST + 3.0)
    found = list(
        evolve(SPACE, sum, latency, bounds[1], least=bounds[0], seed=1, start=[slowest], evaluations=20)
    )
    assert found
    assert all(bounds[0] <= one.latency <= bounds[1] for one in found)
