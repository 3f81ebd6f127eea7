"""Networks drawn from a space, half of them uniformly, half spread evenly over latency."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwprof.errors import SpaceError
from hwprof.measure.messages import Job
from hwprof.ops import OpSpec
from hwprof.space import DartsLayout, Space

Point = tuple[int, ...]

CALIBRATION, VALIDATION = 1, 2
"""Seed streams: networks that a composition is fitted on are never those that it is judged by."""

_TRIES = 50
_STEPS = 1000
_NUDGE, _NUDGES = 0.02, 25


@dataclass(frozen=True)
class Drawn:
    """A network to measure.

    Attributes:
        spread: whether it is of the half that is spread over latency.
    """

    point: Point
    job: Job
    spread: bool


def draw(
    space: Space,
    rows_ms: Mapping[OpSpec, float],
    count: int,
    seed: int,
    stream: int,
    without: Set[str] = frozenset(),
) -> tuple[Drawn, ...]:
    """`count` different networks. The spread half is drawn at evenly spaced sums of rows, from the
    fastest to the slowest network of the space; the stream of validation holds these two.

    Args:
        rows_ms: latency of each op of the space, to spread by.
        without: ids of networks that must not be drawn.

    Raises:
        SpaceError: the space has no networks, or not so many different ones; a negative seed.
    """
    if space.family == "ops":
        raise SpaceError(
            f"{space.name} is a list of ops: it has no networks to measure; give the table of a space "
            "of family chain or cell"
        )
    rng = generator(seed, stream)
    costs = [
        np.array([sum(rows_ms[op] for op in choice.ops) for choice in position.choices])
        for position in space.positions
    ]
    drawn: dict[str, Drawn] = {}

    def take(points: Iterator[Point], spread: bool) -> bool:
        for _, point in zip(range(_TRIES), points, strict=False):
            job = network_job(space, point)
            if job is not None and job.job_id not in drawn and job.job_id not in without:
                drawn[job.job_id] = Drawn(point, job, spread)
                return True
        return False

    for _ in range(count - count // 2):
        if not take(_uniform(space, rng), spread=False):
            raise _too_few(space, count, len(drawn))
    shortest, longest = _bounds(space, costs)
    for place in _places(count // 2, ends=stream == VALIDATION):
        middle = 0.5 - place
        # Where the network at this very place is taken, the next one towards the middle.
        targets = (
            shortest + (longest - shortest) * (place + n * _NUDGE * middle) for n in range(_NUDGES)
        )
        if not any(take(_near(space, costs, target, rng), spread=True) for target in targets):
            raise _too_few(space, count, len(drawn))
    return tuple(drawn.values())


def generator(seed: int, stream: int) -> np.random.Generator:
    """Random numbers of one stream of a seed. Raises SpaceError for a negative seed."""
    if seed < 0:
        raise SpaceError(f"seed must be 0 or more, got {seed}")
    return np.random.default_rng([seed, stream])


def _places(count: int, ends: bool) -> list[float]:
    """Evenly spaced in 0..1, with or without the ends."""
    if ends:
        return [float(place) for place in np.linspace(0.0, 1.0, count)]
    return [(number + 0.5) / count for number in range(count)]


def network_job(space: Space, point: Point) -> Job | None:
    """The job of a point; None where a cell has no path from its input to its output."""
    ops = space.point_ops(point)
    if not ops:
        return None
    if space.family == "chain":
        return Job(ops, "network")
    try:
        return Job(ops, "network", space.network(point), tuple(point))
    except SpaceError:
        return None


def _uniform(space: Space, rng: np.random.Generator) -> Iterator[Point]:
    while True:
        yield space.sample(rng)


def _bounds(space: Space, costs: list[NDArray[np.float64]]) -> tuple[float, float]:
    """Least and largest sum of rows over the networks of the space."""
    if isinstance(space.cell, DartsLayout):
        return space.cell.bounds([c.tolist() for c in costs], space.positions)
    return float(sum(c.min() for c in costs)), float(sum(c.max() for c in costs))


def _near(
    space: Space, costs: list[NDArray[np.float64]], target: float, rng: np.random.Generator
) -> Iterator[Point]:
    """Points whose cost is near the target: drawn by a softmax of the costs whose temperature gives
    that mean, then moved closer one position at a time. In a DARTS space the positions are not free of
    each other: there a uniform draw walks towards the target from neighbour to neighbour."""
    if isinstance(space.cell, DartsLayout):
        while True:
            yield _walk(space, costs, target, rng)
    tilt = _tilt(costs, target)
    while True:
        point = [int(rng.choice(len(c), p=_softmax(tilt * c))) for c in costs]
        for position in rng.permutation(len(costs)):
            rest = _cost(costs, tuple(point))
            rest -= float(costs[position][point[position]])
            point[position] = int(np.abs(rest + costs[position] - target).argmin())
        yield tuple(point)


def _walk(
    space: Space, costs: list[NDArray[np.float64]], target: float, rng: np.random.Generator
) -> Point:
    point = space.sample(rng)
    gap = abs(_cost(costs, point) - target)
    for _ in range(_STEPS):
        candidate = space.neighbour(point, rng)
        new_gap = abs(_cost(costs, candidate) - target)
        if new_gap <= gap:
            point, gap = candidate, new_gap
    return point


def _cost(costs: list[NDArray[np.float64]], point: Point) -> float:
    return sum(float(c[i]) for c, i in zip(costs, point, strict=True))


def _tilt(costs: list[NDArray[np.float64]], target: float) -> float:
    """By bisection. The bound leaves the ends of the range to single choices."""
    scale = 1.0 / max(float(np.ptp(c)) for c in costs) if any(np.ptp(c) for c in costs) else 1.0
    low, high = -50.0 * scale, 50.0 * scale
    for _ in range(60):
        middle = (low + high) / 2
        mean = sum(float(_softmax(middle * c) @ c) for c in costs)
        low, high = (middle, high) if mean < target else (low, middle)
    return (low + high) / 2


def _softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    shares = np.exp(values - values.max())
    total: NDArray[np.float64] = shares / shares.sum()
    return total


def _too_few(space: Space, count: int, found: int) -> SpaceError:
    return SpaceError(
        f"{space.name} has too few different networks: {found} of {count} were found; ask for fewer "
        "with --networks"
    )
