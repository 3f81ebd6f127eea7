"""Regularised evolution (Real et al. 2019, algorithm 1) under a latency target: for accuracy sources
that are a function of a network and have no gradient."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from hwprof.errors import SpaceError
from hwprof.space import Space

Point = tuple[int, ...]

_TRIES = 2000


@dataclass(frozen=True)
class Scored:
    """A network that the proxy was asked about; `latency` in the unit of the target."""

    point: Point
    score: float
    latency: float


def evolve(
    space: Space,
    score: Callable[[Point], float],
    latency: Callable[[Sequence[Point]], Sequence[float]],
    target: float,
    *,
    seed: int,
    least: float = 0.0,
    population: int = 50,
    sample: int = 10,
    evaluations: int = 500,
    start: Sequence[Point] = (),
) -> Iterator[Scored]:
    """Each network as it is scored, all different, none slower than `target` and none faster than
    `least`; none if none fits. The oldest of the population dies, whatever its score.

    Args:
        score: larger is better; called once a network.
        latency: of each of some points.
        start: networks of the first population, the others are drawn. Those that are too slow are made
            faster until they fit, those that are too fast slower.

    Raises:
        SpaceError: a score is NaN.
    """
    rng = np.random.default_rng(seed)
    alive: deque[Scored] = deque()
    seen: set[Point] = set()

    def scored(point: Point, cost: float) -> Scored:
        value = float(score(point))
        if math.isnan(value):
            raise SpaceError(f"the proxy says NaN of network {list(point)} of {space.name}")
        seen.add(point)
        alive.append(Scored(point, value, cost))
        return alive[-1]

    def new(points: Iterator[Point]) -> tuple[Point, float] | None:
        """The first that fits and is new; None after many tries: there are no more."""
        for _, point in zip(range(_TRIES), points, strict=False):
            if point not in seen and least <= (cost := float(latency([point])[0])) <= target:
                return point, cost
        return None

    drawn = iter(lambda: space.sample(rng), None)
    first = chain((tuple(point) for point in start), drawn)
    fitting = (_moved(space, point, latency, least, target, rng) for point in first)
    while len(seen) < evaluations:
        if len(alive) < population:
            found = new(fitting)
        else:
            pick = rng.choice(len(alive), min(sample, len(alive)), replace=False)
            parent = max((alive[i] for i in pick), key=lambda one: one.score)
            found = new(_mutants(space, parent.point, rng))
        if found is None:
            return
        yield scored(*found)
        if len(alive) > population:
            alive.popleft()


def _mutants(space: Space, parent: Point, rng: np.random.Generator) -> Iterator[Point]:
    """One or more positions changed: each further one half as likely."""
    searched = [i for i, position in enumerate(space.positions) if len(position.choices) > 1]
    while True:
        point = list(parent)
        for position in rng.choice(searched, min(rng.geometric(0.5), len(searched)), replace=False):
            others = len(space.positions[position].choices) - 1
            point[position] = (point[position] + 1 + int(rng.integers(others))) % (others + 1)
        yield tuple(point)


def _moved(
    space: Space,
    point: Point,
    latency: Callable[[Sequence[Point]], Sequence[float]],
    least: float,
    target: float,
    rng: np.random.Generator,
) -> Point:
    """Moved into the bounds one random position at a time, by no more than it takes."""
    for position in rng.permutation(len(space.positions)):
        cost = float(latency([point])[0])
        if least <= cost <= target:
            break
        there = range(len(space.positions[position].choices))
        others = [(*point[:position], choice, *point[position + 1 :]) for choice in there]
        costs = np.asarray(latency(others), dtype=float)
        beyond = np.maximum(costs - target, least - costs)
        fits = np.flatnonzero(beyond <= 0)
        point = others[int(fits[np.abs(costs[fits] - cost).argmin()] if fits.size else beyond.argmin())]
    return point
