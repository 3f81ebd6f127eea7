"""From architecture parameters to the networks that are worth measuring."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from hwprof.errors import SpaceError
from hwprof.search.cells.relaxation import Relaxation

Point = tuple[int, ...]
TEMPERATURES = (1.0, 0.5, 0.2)
DRAWS = 1000
STEPS = 2000


def best_candidates(
    relaxation: Relaxation,
    parameters: Tensor,
    count: int,
    *,
    latency: Callable[[Sequence[Point]], Sequence[float]] | None = None,
    target: float | None = None,
    least: float = 0.0,
    seed: int = 0,
) -> list[Point]:
    """The likeliest networks of the parameters, best first; with a target, of those whose latency is
    from `least` to it.

    DARTS takes one network, that of `discretise`, wherever its latency ends up. Here it is one among
    networks drawn from the parameters' distribution and their neighbours.

    Args:
        count: how many at most.
        latency: of points, in the unit of `target`; needed with one.

    Raises:
        SpaceError: no network with such a latency was found.
    """
    first = relaxation.discretise(parameters)
    points = [first]
    for number, temperature in enumerate(TEMPERATURES):
        points += relaxation.sample(
            parameters, DRAWS, temperature=temperature, seed=seed * len(TEMPERATURES) + number
        )
    points = list(dict.fromkeys(points))
    rng = np.random.default_rng([seed, len(points)])
    if latency is not None and target is not None:
        if not any(least <= value <= target for value in latency(points)):
            points.append(_walk(relaxation, first, latency, (least + target) / 2, rng))
        kept = [p for p, v in zip(points, latency(points), strict=True) if least <= v <= target]
        if not kept:
            near = min(latency(points), key=lambda value: abs(value - target))
            raise SpaceError(
                f"no network of {relaxation.space.name} between {least:.4g} and {target:.4g} was found "
                f"near the parameters, the nearest has {near:.4g}; give another target"
            )
        points = kept
    scored = {point: relaxation.log_probability(parameters, point) for point in points}
    return sorted(scored, key=lambda point: -scored[point])[:count]


def _walk(
    relaxation: Relaxation,
    start: Point,
    latency: Callable[[Sequence[Point]], Sequence[float]],
    wanted: float,
    rng: np.random.Generator,
) -> Point:
    """From neighbour to neighbour towards a latency."""
    point = start
    gap = abs(latency([point])[0] - wanted)
    for _ in range(STEPS):
        candidate = relaxation.space.neighbour(point, rng)
        new_gap = abs(latency([candidate])[0] - wanted)
        if new_gap < gap:
            point, gap = candidate, new_gap
    return point
