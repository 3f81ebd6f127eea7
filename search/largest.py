"""The largest network within a latency: the proxy search `params`, and any other additive score.

One choice per position, so that scores add up to the most and latencies to no more than a target: the
multiple-choice knapsack problem (Kellerer, Pferschy and Pisinger 2004, chapter 11), by dynamic
programming over latency in equal steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import numpy as np
from numpy.typing import NDArray

from hwprof.composition.price import Pricer
from hwprof.composition.pricing import (
    ChoiceCosts,
    choice_latencies,
    composed_costs,
    space_border_ms,
    table_composition,
)
from hwprof.errors import LutError, SpaceError
from hwprof.graph import cost
from hwprof.lut import Lut
from hwprof.space import Space

STEPS = 1 << 16
"""Steps between the fastest network and the target: each position's latency is rounded to them."""
MAX_KEPT = 1 << 27
"""Most choices remembered (positions x steps), 2 bytes each; a larger space gets coarser steps."""
_SAME = 1e-9


@dataclass(frozen=True)
class AdditiveCosts:
    """What each choice adds to a network's latency, and what every network adds."""

    choices_ms: ChoiceCosts
    border_ms: float = 0.0

    @property
    def fastest_ms(self) -> float:
        return self.border_ms + sum(min(costs) for costs in self.choices_ms)

    @property
    def slowest_ms(self) -> float:
        return self.border_ms + sum(max(costs) for costs in self.choices_ms)

    def latency_ms(self, point: Sequence[int]) -> float:
        return self.border_ms + sum(
            costs[choice] for costs, choice in zip(self.choices_ms, point, strict=True)
        )


@dataclass(frozen=True)
class Largest:
    """The best network found.

    Attributes:
        score_bound: no network within the target scores more; equal to `score` where the network is
            proven to be the best.
        resolution_ms: the steps that a position's latency was rounded to.
    """

    point: tuple[int, ...]
    latency_ms: float
    score: float
    score_bound: float
    resolution_ms: float


def additive_costs(
    table: Lut,
    space: Space,
    *,
    environment: str | None = None,
    column: str = "latency_ms",
    cache: str = "warm",
    allow_unstable: bool = False,
) -> AdditiveCosts:
    """Costs of a space by a table and the composition that it is calibrated with, as
    `ExpectedLatency` prices.

    Raises:
        MissingRow: ops without a usable row, all of them named.
        LutError: the composition has edges: what neighbours cost together is not additive.
    """
    plain = choice_latencies(
        table, space,
        environment=environment, column=column, cache=cache, allow_unstable=allow_unstable,
    )  # fmt: skip
    composition = table_composition(table, space, environment=environment, column=column, cache=cache)
    if composition is None:
        return AdditiveCosts(plain)
    if composition.uses_edges:
        raise LutError(
            f"{table.path} puts networks of {space.name} together by {composition.model}, with edges "
            "between neighbours, which no sum over positions can hold; calibrate it with another model: "
            f"hwprof calibrate {table.path} --model terms"
        )
    pricer = Pricer(table, composition.scope, space.ops(), composition, allow_unstable=allow_unstable)
    return AdditiveCosts(composed_costs(pricer, space), space_border_ms(pricer, space))


def choice_parameters(space: Space) -> tuple[tuple[float, ...], ...]:
    """Parameters of each choice of each position, BatchNorm folded."""
    parameters = {op: float(cost(op.lower()).parameters) for op in space.ops()}
    return tuple(
        tuple(sum((parameters[op] for op in choice.ops), 0.0) for choice in position.choices)
        for position in space.positions
    )


def largest_network(
    space: Space,
    costs: AdditiveCosts,
    scores: Sequence[Sequence[float]],
    target_ms: float,
    *,
    steps: int = STEPS,
) -> Largest:
    """The network of the highest sum of scores whose latency is at or below the target.

    Latency above that of the fastest network is divided into `steps`, and each position's is rounded
    to them. Rounded up, the network always fits; rounded down, its score is one that no network within
    the target exceeds; also rounded to the nearest. The best of the three that fits is taken.

    Args:
        scores: of each choice of each position, for example `choice_parameters(space)`.

    Raises:
        SpaceError: the space is no chain, the scores do not fit it, or the target lies below its
            fastest or above its slowest network: then both are named.
    """
    if space.family != "chain":
        raise SpaceError(
            f"{space.name} is a {space.family} space; the largest network is that of a chain"
        )
    widths = [len(position.choices) for position in space.positions]
    if widths != [len(s) for s in scores] or widths != [len(c) for c in costs.choices_ms]:
        raise SpaceError(f"{space.name} wants a score and a cost for each choice of each position")
    check_target(space, (costs.fastest_ms, costs.slowest_ms), target_ms)
    steps = max(1, min(steps, MAX_KEPT // len(widths)))
    step_ms = max(0.0, target_ms - costs.fastest_ms) / steps
    extra = [np.array(c) - min(c) for c in costs.choices_ms]
    points = []
    for rounded in (np.floor, np.rint, np.ceil):
        points.append(_fill([_in_steps(e, step_ms, steps, rounded) for e in extra], scores, steps))
    fitting = [point for point in points[:-1] if costs.latency_ms(point) <= target_ms]
    best = max(
        (*fitting, points[-1]), key=lambda point: (_total(scores, point), -costs.latency_ms(point))
    )
    return Largest(
        point=best,
        latency_ms=costs.latency_ms(best),
        score=_total(scores, best),
        score_bound=max(_total(scores, points[0]), _total(scores, best)),
        resolution_ms=step_ms,
    )


def check_target(space: Space, bounds_ms: tuple[float, float], target_ms: float) -> None:
    """Raise where no network of the space can be near the target.

    Args:
        bounds_ms: of the fastest and the slowest network.

    Raises:
        SpaceError: names both, rounded to the inside, so that either may be given as a target.
    """
    low, high = bounds_ms
    if low * (1 - _SAME) <= target_ms <= high * (1 + _SAME):
        return
    where = "below the fastest" if target_ms < low else "above the slowest"
    raise SpaceError(
        f"target {target_ms:g} ms is {where} network of {space.name}: they take "
        f"{_digits(low, ROUND_CEILING)} to {_digits(high, ROUND_FLOOR)} ms by this table; give a target "
        "between"
    )


def _digits(value: float, rounding: str) -> str:
    """Four of them."""
    exact = Decimal(value)
    return f"{float(exact.quantize(Decimal(1).scaleb(exact.adjusted() - 3), rounding)):g}"


def _in_steps(
    extra_ms: NDArray[np.float64], step_ms: float, steps: int, rounded: np.ufunc
) -> NDArray[np.int64]:
    """Steps of each choice; `steps + 1` where it alone exceeds the target."""
    if step_ms == 0:
        return np.where(extra_ms > 0, steps + 1, 0)
    whole = np.rint(extra_ms / step_ms)
    # A quotient that is whole but for the last bit is that number in either direction.
    exact = np.abs(extra_ms / step_ms - whole) < _SAME * np.maximum(whole, 1)
    counts = np.where(exact, whole, rounded(extra_ms / step_ms))
    return np.minimum(counts, steps + 1).astype(np.int64)


def _fill(
    taken: Sequence[NDArray[np.int64]], scores: Sequence[Sequence[float]], steps: int
) -> tuple[int, ...]:
    """The best choice of each position."""
    picks = []
    value = np.zeros(steps + 1)
    for counts, of_choice in zip(taken, scores, strict=True):
        value, pick = _add(value, counts, of_choice)
        picks.append(pick)
    point, left = [], steps
    for counts, pick in zip(reversed(taken), reversed(picks), strict=True):
        choice = int(pick[left])
        point.append(choice)
        left -= int(counts[choice])
    return tuple(reversed(point))


def _total(scores: Sequence[Sequence[float]], point: Sequence[int]) -> float:
    return float(sum(of[choice] for of, choice in zip(scores, point, strict=True)))


def _add(
    value: NDArray[np.float64], counts: NDArray[np.int64], scores: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.uint16]]:
    """Best score within each number of steps with one position more, and its choice there. Cheap
    choices are tried first, so of equal scores the faster one stays."""
    best = np.full(len(value), -np.inf)
    pick = np.zeros(len(value), np.uint16)
    for choice in np.argsort(counts, kind="stable").tolist():
        count = int(counts[choice])
        if count >= len(value):
            continue
        offered = value[: len(value) - count] + scores[choice]
        better = offered > best[count:]
        best[count:][better] = offered[better]
        pick[count:][better] = choice
    return best, pick
